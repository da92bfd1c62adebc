"""The ground: everything below a height."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Vector
from drone_cbf.physics.solids.lines import FAR, PARALLEL


@struct.dataclass
class Ground:
    """Level ground; ``g`` is 0 in scenes without it, else 1."""

    height: Float[Array, "g"]  # Solid below [m]
    active: Bool[Array, "g"]  # False for an unused slot


def nearest_points(ground: Ground, position: Vector) -> Float[Array, "g 3"]:
    """Point of the surface nearest to ``position`` [m]."""
    return jnp.broadcast_to(position, (*ground.height.shape, 3)).at[:, 2].set(ground.height)


def signed_distances(ground: Ground, position: Vector) -> Float[Array, "g"]:
    """Height of ``position`` above ground [m]."""
    return position[2] - ground.height


def swept_distances(ground: Ground, start: Vector, end: Vector, duration: float) -> Float[Array, "g"]:
    """Smallest height above ground [m] while moving straight from ``start`` to ``end``; any ``duration`` [s]."""
    return jnp.minimum(start[2], end[2]) - ground.height


def ray_distances(ground: Ground, origin: Vector, directions: Float[Array, "r 3"]) -> Float[Array, "r g"]:
    """Distance from ``origin`` to the surface along unit ``directions`` [m]; 0 from below, ``FAR`` without a hit."""
    above = (origin[2] - ground.height)[:, None]
    sinking = -directions[:, 2]
    hits = sinking > jnp.maximum(above / FAR, PARALLEL)
    distance = above / jnp.where(hits, sinking, 1.0)
    return jnp.where(above < 0.0, 0.0, jnp.where(hits, distance, FAR)).T
