"""Random numbers drawn all at once: every draw on its own is a loop of the compiled program.

Compiling those loops took three times as long as compiling what a scene sampler does with the numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST = 1.0 - 2.0**-24
"""The float32 before one: keeps the normal quantile finite at both ends."""


def uniform_draws(key: jax.Array, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Independent float32 arrays by name, uniform in [0, 1), of the shapes given.

    What a name holds depends on the names and shapes before it: a sampler that asks for more draws other scenes.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    numbers = jax.random.uniform(key, (sum(sizes),), jnp.float32)
    draws, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        draws[name] = numbers[start : start + size].reshape(shape)
        start += size
    return draws


def between(draw: Float[Array, "*shape"], low: float | Array, high: float | Array) -> Float[Array, "*shape"]:
    """Uniform in [low, high) from uniform in [0, 1)."""
    return low + (high - low) * draw


def standard_normal(draw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard normal from uniform in [0, 1), by the quantile function; at most 5.4 in magnitude."""
    return math.sqrt(2.0) * jax.scipy.special.erfinv(jnp.clip(2.0 * draw - 1.0, -LARGEST, LARGEST))


def standard_exponential(draw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exponential of mean one from uniform in [0, 1), by the quantile function."""
    return -jnp.log1p(-draw)


def index_by_weight(draw: Float[Array, ""], weights: Float[Array, "n"]) -> Array:
    """An index with probability in proportion to its weight, from uniform in [0, 1), by the cumulative distribution.

    Never one of weight zero, where any weight is positive.
    """
    cumulative = jnp.cumsum(weights)
    return jnp.argmax(cumulative > draw * cumulative[-1])
