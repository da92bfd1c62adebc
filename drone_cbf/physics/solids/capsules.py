"""Vertical capsules: exact distances for spheres, pillars and tree trunks with one primitive."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit


@struct.dataclass
class Capsules:
    """``m`` vertical capsules: all points within ``radius`` of the segment ``centre`` +- ``half_height``."""

    centre: Float[Array, "m 3"]  # At time zero [m]
    radius: Float[Array, "m"]  # [m]
    half_height: Float[Array, "m"]  # [m]; 0 for a sphere, beyond the altitude range of flights for a tree trunk
    velocity: Float[Array, "m 3"]  # Constant [m/s]
    active: Bool[Array, "m"]  # False for unused slots

    def at(self, time: Scalar | float) -> Capsules:
        """The capsules at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)


def _axis_points(capsules: Capsules, position: Vector) -> Float[Array, "m 3"]:
    """Nearest point on each capsule's axis."""
    low = capsules.centre[:, 2] - capsules.half_height
    high = capsules.centre[:, 2] + capsules.half_height
    # For a sphere both limits of ``clip`` coincide; at that height it would pass a quarter of the gradient.
    height = jnp.where(capsules.half_height > 0.0, jnp.clip(position[2], low, high), capsules.centre[:, 2])
    return capsules.centre.at[:, 2].set(height)


def nearest_points(capsules: Capsules, position: Vector) -> Float[Array, "m 3"]:
    """Point of each surface nearest to ``position`` [m]."""
    axis = _axis_points(capsules, position)
    return axis + capsules.radius[:, None] * unit(position - axis)


def signed_distances(capsules: Capsules, position: Vector) -> Float[Array, "m"]:
    """Signed distance from ``position`` to each surface [m], negative inside."""
    return safe_norm(position - _axis_points(capsules, position)) - capsules.radius


def swept_distances(capsules: Capsules, start: Vector, end: Vector, duration: float) -> Float[Array, "m"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``capsules`` are those at its start. The squared distance to a vertical segment is convex and continuously
    differentiable along a line, so its minimum lies at an end or at the stationary point of one of its three pieces
    (beside, above, below the segment): five candidates are exact. Curvature of the path is not included.
    """
    relative = start - capsules.centre
    motion = (end - start) - capsules.velocity * duration
    tip = jnp.zeros_like(relative).at[:, 2].set(capsules.half_height)
    level = jnp.array([1.0, 1.0, 0.0])

    def stationary(offset: Float[Array, "m 3"], axes: Float[Array, "3"]) -> Float[Array, "m"]:
        moved = jnp.sum(axes * motion * motion, -1)
        return jnp.clip(-jnp.sum(axes * offset * motion, -1) / jnp.maximum(moved, 1e-12), 0.0, 1.0)

    zero = jnp.zeros_like(capsules.radius)
    candidates = [zero, zero + 1.0, stationary(relative, level), stationary(relative - tip, jnp.ones(3))]
    fractions = jnp.stack([*candidates, stationary(relative + tip, jnp.ones(3))])
    offset = relative + fractions[..., None] * motion
    beyond = jnp.maximum(jnp.abs(offset[..., 2]) - capsules.half_height, 0.0)
    return jnp.min(safe_norm(offset.at[..., 2].set(beyond)), axis=0) - capsules.radius
