"""Random draws from a single call of the generator: each call is a compiled loop, and those dominated compile time."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.packing import as_one_batch, of_single

Tree = TypeVar("Tree")
LARGEST = 1.0 - 2.0**-24  # Largest float32 below one; keeps the normal quantile finite at both ends


def uniform_draws(key: jax.Array, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Independent float32 arrays by name with the given shapes, uniform in [0, 1).

    Values depend on the shapes that precede them, so adding a draw to a sampler changes its scenes.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    numbers = jax.random.uniform(key, (sum(sizes),), jnp.float32)
    draws, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        draws[name] = numbers[start : start + size].reshape(shape)
        start += size
    return draws


def between(draw: Float[Array, "*shape"], low: float | Array, high: float | Array) -> Float[Array, "*shape"]:
    """Map uniform [0, 1) to uniform [low, high)."""
    return low + (high - low) * draw


def standard_normal(draw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Map uniform [0, 1) to standard normal by the quantile function; at most 5.4 in magnitude."""
    return math.sqrt(2.0) * jax.scipy.special.erfinv(jnp.clip(2.0 * draw - 1.0, -LARGEST, LARGEST))


def standard_exponential(draw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Map uniform [0, 1) to an exponential of mean one by the quantile function."""
    return -jnp.log1p(-draw)


def index_by_weight(draw: Float[Array, ""], weights: Float[Array, "n"]) -> Array:
    """Map uniform [0, 1) to an index with probability proportional to its weight; never to one of weight zero."""
    cumulative = jnp.cumsum(weights)
    return jnp.argmax(cumulative > draw * cumulative[-1])


def unless_silent(draw: Callable[[Array, jax.Array], Tree]) -> Callable[[Array, jax.Array], Tree]:
    """``draw``, a function (level, key) -> errors of that size, zero at level zero. Under ``vmap``, however nested, it
    does not draw if all levels are zero."""

    def of_batch(_: None, given: tuple[Float[Array, "n *size"], jax.Array]) -> Tree:
        every = jax.vmap(draw)
        kinds = jax.eval_shape(every, *given)
        silent = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)
        return jax.lax.cond(jnp.any(given[0] != 0.0), every, lambda level, key: silent, *given)

    merged = as_one_batch(of_batch)
    return lambda level, key: of_single(merged, None, (level, key))
