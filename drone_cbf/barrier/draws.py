"""Random numbers of one sampled state, drawn all at once, and places made of them.

Every call of a generator is compiled anew, about as long as the rest of a sampler: so each stratum makes two.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector
from drone_cbf.barrier.samples import Spot, spot_on
from drone_cbf.config import SystemConfig
from drone_cbf.physics.obstacles import Obstacles

SPOT_DRAWS = 2
"""Even numbers that :func:`drawn_spot` takes."""
PLACE_DRAWS = 3
"""The same of :func:`drawn_place`."""


@struct.dataclass
class Draws:
    """Independent random numbers."""

    even: Float[Array, "n"]
    """Uniform in [0, 1)."""
    normal: Float[Array, "k 3"]
    """Standard normal."""


def draw(key: jax.Array, even: int, normal: int) -> Draws:
    """``even`` uniform numbers and ``normal`` rows of three normal ones."""
    even_key, normal_key = jax.random.split(key)
    return Draws(even=jax.random.uniform(even_key, (even,)), normal=jax.random.normal(normal_key, (normal, 3)))


def between(even: Array, low: float, high: float) -> Array:
    """Numbers drawn evenly from [low, high)."""
    return low + (high - low) * even


def drawn_spot(obstacles: Obstacles, even: Float[Array, "2"], direction: Vector) -> Spot:
    """A place on one active obstacle, all equally likely; on a trunk within a metre of its middle's height."""
    order = jnp.cumsum(obstacles.active)
    index = jnp.argmax(order > even[0] * order[-1])
    return spot_on(obstacles, index, direction, between(even[1], -1.0, 1.0))


def drawn_place(obstacles: Obstacles, even: Float[Array, "3"], direction: Vector, system: SystemConfig) -> Vector:
    """A point at an exponentially distributed distance from the surface of one active obstacle [m]."""
    spot = drawn_spot(obstacles, even[:SPOT_DRAWS], direction)
    return spot.at(0.5 * system.physics.drone_radius - 0.8 * jnp.log1p(-even[2]))
