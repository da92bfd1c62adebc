"""Array helpers with finite gradients at singular points, and pytree utilities."""

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
"""Values up to this magnitude are squared without scaling: sums of many squares stay below float32's 3e38."""
DOWNSCALE = 2.0**-80  # Factor applied to larger values before their norm is taken; a power of two, so it is exact


def safe_norm(vector: Float[Array, "*batch n"], epsilon: float = 1e-6) -> Float[Array, "*batch"]:
    """Euclidean norm over the last axis, ``sqrt(|x|^2 + epsilon^2)``; exceeds it by at most ``epsilon`` (same unit).

    Smooth everywhere: at zero the gradient is zero, where the plain norm's is NaN.
    """
    return jnp.sqrt(jnp.sum(vector * vector, axis=-1) + epsilon * epsilon)


def unit(vector: Float[Array, "*batch n"], epsilon: float = 1e-6) -> Float[Array, "*batch n"]:
    """Direction of ``vector``; the zero vector maps to zero, with a finite gradient."""
    return vector / safe_norm(vector, epsilon)[..., None]


def largest_entry(values: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*rest"]:
    """Maximum over a short ``axis``, propagating NaN; the gradient flows to a single largest entry.

    The gradient of ``jnp.max`` divides by the number of entries equal to the maximum. If the compiler recomputes the
    entries with different rounding, that number can be zero and the gradient 0 / 0 (seen at XLA optimisation level 0).
    """
    values = jnp.moveaxis(values, axis, 0)
    places = jnp.arange(values.shape[0]).reshape(-1, *(1 for _ in values.shape[1:]))
    return jnp.sum(jnp.where(places == _place_of_largest(jax.lax.stop_gradient(values)), values, 0.0), axis=0)


def _place_of_largest(values: Float[Array, "n *rest"]) -> Int[Array, "*rest"]:
    """``jnp.argmax`` over the leading axis, unrolled: several times faster than the reduction on CPU."""
    best, place = values[0], jnp.zeros(values.shape[1:], jnp.int32)
    for index, entry in enumerate(values[1:], start=1):
        larger = (entry > best) | jnp.isnan(entry)
        best, place = jnp.where(larger, entry, best), jnp.where(larger, index, place)
    return place


LARGE = 1e5
"""Exponents beyond this are so large that their rounding is not small against one any more."""


def beneath(values: Float[Array, "n"], top: Scalar) -> Float[Array, "n"]:
    """``values - top``, where ``top`` is the largest of them, for a sum of exponentials; none is far above zero.

    The compiler may compute a value twice, and round it otherwise the second time. Of a large one, all exponentials
    would then be zero, or one infinite: what differs from ``top`` by rounding only counts as equal, with its gradient.
    """
    rest, size = values - top, jnp.abs(top)
    equal = (size > LARGE) & (jnp.abs(rest) <= 1e-6 * size)
    return jnp.where(equal, rest - jax.lax.stop_gradient(rest), rest)


def log_sum_exp(values: Float[Array, "n"]) -> Scalar:
    """``log(sum(exp(values)))`` of finite values of any size."""
    top = jax.lax.stop_gradient(jnp.max(values))
    return jnp.log(jnp.sum(jnp.exp(beneath(values, top)))) + top


def softplus(x: ArrayLike, sharpness: float) -> Array:
    """Smooth ``max(x, 0)``: ``log(1 + exp(sharpness x)) / sharpness``; exceeds it by at most ``log 2 / sharpness``."""
    return jax.nn.softplus(sharpness * jnp.asarray(x)) / sharpness


def saturated(wanted: Vector, limit: tuple[float, float, float]) -> Vector:
    """``limit * tanh(wanted / limit)`` along each axis; zero, without gradient, along one of no limit."""
    return jnp.asarray(limit) * jnp.tanh(wanted / jnp.asarray([most or 1.0 for most in limit]))


def smooth_cutoff(distance: ArrayLike, radius: ArrayLike, full: float = 0.75) -> Array:
    """Weight that is 1 up to ``full * radius`` [m] and falls to 0 at ``radius`` with a continuous derivative."""
    x = jnp.clip((jnp.asarray(distance) / radius - full) / (1.0 - full), 0.0, 1.0)
    return 1.0 - x * x * (3.0 - 2.0 * x)


def concatenate_trees(*trees: Tree) -> Tree:
    """Concatenate pytrees along the leading axis, so that one compiled program handles all of them."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def split_tree(tree: Tree, count: int) -> list[Tree]:
    """Inverse of :func:`concatenate_trees` for ``count`` trees of equal length."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), tree)
    return [jax.tree.map(lambda leaf, index=index: leaf[index], parts) for index in range(count)]


def scale_gradient(tree: Tree, weight: ArrayLike) -> Tree:
    """Identity whose gradient is multiplied by ``weight``; with a Python 0 it is not computed at all."""
    if isinstance(weight, (int, float)) and weight == 0:
        return jax.lax.stop_gradient(tree)

    def scale(leaf: Array) -> Array:
        stopped = jax.lax.stop_gradient(leaf)
        return stopped + weight * (leaf - stopped)

    return jax.tree.map(scale, tree)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def limit_gradient(tree: Tree, limit: float) -> Tree:
    """Identity whose gradient is rescaled to Euclidean norm ``limit`` (over all leaves) if it exceeds it.

    Back-propagated through many steps of a contact-like system, a few exploding gradients would dominate the batch.
    NaN is propagated; a gradient whose norm overflows float32 keeps its direction.
    """
    return tree


def _limit_forward(tree: Tree, limit: float) -> tuple[Tree, None]:
    return tree, None


def _limit_backward(limit: float, _: None, gradient: Tree) -> tuple[Tree]:
    flat = ravel_leaves([leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype != jax.dtypes.float0])
    scale = _overflow_scale(flat)  # 1 unless the gradient explodes
    norm = _plain_norm(scale * flat)
    factor = jnp.minimum(1.0 / scale, limit / (norm + 1e-12 * scale))
    return (jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else factor * (scale * leaf), gradient),)


limit_gradient.defvjp(_limit_forward, _limit_backward)


STEEPEST = 1e12
"""Largest derivative that :func:`bounded_gradient` passes on."""


@jax.custom_vjp
def bounded_gradient(tree: Tree) -> Tree:
    """Identity whose gradient is cut to :data:`STEEPEST`, and zero where it is not finite: what is behind it stays
    finite, though intermediate results of the backward pass before it overflow."""
    return tree


def _bounded_backward(_: None, gradient: Tree) -> tuple[Tree]:
    def bounded(leaf: Array) -> Array:
        return jnp.where(jnp.isfinite(leaf), jnp.clip(leaf, -STEEPEST, STEEPEST), 0.0)

    return (jax.tree.map(bounded, gradient),)


bounded_gradient.defvjp(lambda tree: (tree, None), _bounded_backward)


def tree_norm(tree: Tree) -> Scalar:
    """Euclidean norm over all leaves, without intermediate overflow."""
    flat = ravel_leaves(tree)
    scale = _overflow_scale(flat)
    return _plain_norm(scale * flat) / scale


def bound_magnitude(tree: Tree) -> Tree:
    """Scale a larger ``tree`` down to magnitude :data:`LARGEST_SQUARED`, keeping its direction.

    Clipping such a gradient by its plain norm, which overflows, would turn it into zero.
    """
    size = _magnitude(ravel_leaves(tree))
    factor = jnp.where(size > LARGEST_SQUARED, LARGEST_SQUARED / size, 1.0)
    return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)


def ravel_leaves(tree: Tree) -> Float[Array, "entries"]:
    """All entries of all leaves as one vector, which compiles faster to reduce than each leaf."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def _magnitude(values: Float[Array, "entries"]) -> Scalar:
    """Largest absolute entry as float32; propagates NaN."""
    return jnp.max(jnp.abs(values), initial=0).astype(jnp.float32)


def _overflow_scale(values: Float[Array, "entries"]) -> Scalar:
    """Factor that keeps the squares of ``values`` from overflowing: 1 or :data:`DOWNSCALE`."""
    return jnp.where(_magnitude(values) > LARGEST_SQUARED, jnp.float32(DOWNSCALE), jnp.float32(1.0))


def _plain_norm(values: Float[Array, "entries"]) -> Scalar:
    return jnp.sqrt(jnp.sum(jnp.square(values)))


def tree_all_finite(tree: Tree) -> Array:
    """Whether every entry of every leaf is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
