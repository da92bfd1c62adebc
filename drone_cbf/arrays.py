"""Array helpers whose gradients stay finite at singular points, and small tree tools."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

Scalar = Float[Array, ""]
Vector = Float[Array, "3"]
Tree = TypeVar("Tree")

LARGEST_SQUARED = 1e15
"""Numbers up to this size are squared as they are: float32 ends at 3e38, and many squares are summed."""
SHRINKING = 2.0**-80
"""Before the norm of larger ones is taken, they are multiplied by this power of two, which rounds nothing."""


def safe_norm(vector: Float[Array, "*batch n"], epsilon: float = 1e-6) -> Float[Array, "*batch"]:
    """Euclidean norm over the last axis, ``sqrt(|x|^2 + epsilon^2)``.

    Smooth everywhere: at zero the value is ``epsilon`` and the gradient is zero, where the plain norm's is NaN.
    The error is at most ``epsilon`` (same unit as ``vector``).
    """
    return jnp.sqrt(jnp.sum(vector * vector, axis=-1) + epsilon * epsilon)


def unit(vector: Float[Array, "*batch n"], epsilon: float = 1e-6) -> Float[Array, "*batch n"]:
    """Direction of ``vector``; the zero vector maps to zero, with a finite gradient."""
    return vector / safe_norm(vector, epsilon)[..., None]


def largest_entry(values: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*rest"]:
    """Maximum over a short ``axis``, NaN if there is one; the gradient goes to one largest entry.

    The gradient of ``jnp.max`` divides by the number of entries that equal the maximum. Where the compiler computes the
    entries once more, rounded otherwise, that is none, and 0 / 0 (seen at XLA optimisation level 0).
    """
    values = jnp.moveaxis(values, axis, 0)
    places = jnp.arange(values.shape[0]).reshape(-1, *(1 for _ in values.shape[1:]))
    return jnp.sum(jnp.where(places == _place_of_largest(jax.lax.stop_gradient(values)), values, 0.0), axis=0)


def _place_of_largest(values: Float[Array, "n *rest"]) -> Int[Array, "*rest"]:
    """``jnp.argmax`` over the leading axis, entry by entry: on CPU the reduction takes several times as long."""
    best, place = values[0], jnp.zeros(values.shape[1:], jnp.int32)
    for index, entry in enumerate(values[1:], start=1):
        larger = (entry > best) | jnp.isnan(entry)
        best, place = jnp.where(larger, entry, best), jnp.where(larger, index, place)
    return place


def softplus(x: ArrayLike, sharpness: float) -> Array:
    """Smooth ``max(x, 0)``: ``log(1 + exp(sharpness x)) / sharpness``; exceeds it by at most ``log 2 / sharpness``."""
    return jax.nn.softplus(sharpness * jnp.asarray(x)) / sharpness


def smooth_cutoff(distance: ArrayLike, radius: ArrayLike, full: float = 0.75) -> Array:
    """Weight that is 1 up to ``full * radius`` and falls to 0 at ``radius`` with a continuous derivative.

    ``distance`` and ``radius`` in metres, broadcast together.
    """
    x = jnp.clip((jnp.asarray(distance) / radius - full) / (1.0 - full), 0.0, 1.0)
    return 1.0 - x * x * (3.0 - 2.0 * x)


def joined(*trees: Tree) -> Tree:
    """One after another along the leading axis: a program that meets them at once is compiled once."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def parted(tree: Tree, count: int) -> list[Tree]:
    """The ``count`` trees that were joined, all of the same length."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), tree)
    return [jax.tree.map(lambda leaf, index=index: leaf[index], parts) for index in range(count)]


def scale_gradient(tree: Tree, weight: ArrayLike) -> Tree:
    """The identity forward; multiplies the gradient by ``weight`` (0 stops it, 1 leaves it).

    A ``weight`` that is plainly the number 0 spares the computation of the gradient, too.
    """
    if isinstance(weight, (int, float)) and weight == 0:
        return jax.lax.stop_gradient(tree)

    def scale(leaf: Array) -> Array:
        stopped = jax.lax.stop_gradient(leaf)
        return stopped + weight * (leaf - stopped)

    return jax.tree.map(scale, tree)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def limit_gradient(tree: Tree, limit: float) -> Tree:
    """The identity forward; scales the gradient back to Euclidean norm ``limit`` (over all leaves) where it is longer.

    Back-propagated through many steps of a contact-like system, a few gradients explode and drown all others; this
    keeps each flight's voice. A NaN stays NaN; a gradient too long for its norm to be a float32 keeps its direction.
    """
    return tree


def _limit_forward(tree: Tree, limit: float) -> tuple[Tree, None]:
    return tree, None


def _limit_backward(limit: float, _: None, gradient: Tree) -> tuple[Tree]:
    flat = in_one([leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype != jax.dtypes.float0])
    shrinking = _shrinking(flat)  # 1 for all but a gradient that explodes
    norm = _plain_norm(shrinking * flat)
    factor = jnp.minimum(1.0 / shrinking, limit / (norm + 1e-12 * shrinking))
    return (
        jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else factor * (shrinking * leaf), gradient),
    )


limit_gradient.defvjp(_limit_forward, _limit_backward)


def tree_norm(tree: Tree) -> Scalar:
    """Euclidean norm of all leaves together; finite for all finite leaves whose norm is a number of their type."""
    flat = in_one(tree)
    shrinking = _shrinking(flat)
    return _plain_norm(shrinking * flat) / shrinking


def within_reach(tree: Tree) -> Tree:
    """``tree``, scaled down to :data:`LARGEST_SQUARED` where it is larger: clipped by its plain norm, which would be
    infinite, it would vanish; so it keeps its direction. What is smaller is the same to the last bit."""
    size = _magnitude(in_one(tree))
    factor = jnp.where(size > LARGEST_SQUARED, LARGEST_SQUARED / size, 1.0)
    return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)


def in_one(tree: Tree) -> Float[Array, "entries"]:
    """All entries of all leaves as one vector.

    A reduction of each leaf would be compiled into everything that is done with the result, for every leaf anew.
    """
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def _magnitude(values: Float[Array, "entries"]) -> Scalar:
    """Of the largest entry, in float32; NaN if there is one."""
    return jnp.max(jnp.abs(values), initial=0).astype(jnp.float32)


def _shrinking(values: Float[Array, "entries"]) -> Scalar:
    """What to multiply ``values`` by so that their squares do not overflow: 1, or :data:`SHRINKING`."""
    return jnp.where(_magnitude(values) > LARGEST_SQUARED, jnp.float32(SHRINKING), jnp.float32(1.0))


def _plain_norm(values: Float[Array, "entries"]) -> Scalar:
    return jnp.sqrt(jnp.sum(jnp.square(values)))


def tree_all_finite(tree: Tree) -> Array:
    """True when no leaf holds a NaN or an infinity."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
