"""Obstacles as vertical capsules: exact distances for spheres and tree trunks with one primitive."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit

FAR = 1e3  # Distance reported for a masked obstacle [m]


@struct.dataclass
class Obstacles:
    """``m`` vertical capsules: all points within ``radius`` of the segment ``centre`` +- ``half_height``."""

    centre: Float[Array, "m 3"]  # At time zero [m]
    radius: Float[Array, "m"]  # [m]
    half_height: Float[Array, "m"]  # [m]; 0 for a sphere, beyond the altitude range of flights for a tree trunk
    velocity: Float[Array, "m 3"]  # Constant [m/s]
    active: Bool[Array, "m"]  # False for unused slots

    def at(self, time: Scalar | float) -> Obstacles:
        """The obstacles at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)


def _axis_points(obstacles: Obstacles, position: Vector) -> Float[Array, "m 3"]:
    """Nearest point on each capsule's axis."""
    low = obstacles.centre[:, 2] - obstacles.half_height
    high = obstacles.centre[:, 2] + obstacles.half_height
    # For a sphere both limits of ``clip`` coincide; at that height it would pass a quarter of the gradient.
    height = jnp.where(obstacles.half_height > 0.0, jnp.clip(position[2], low, high), obstacles.centre[:, 2])
    return obstacles.centre.at[:, 2].set(height)


def nearest_surface_points(obstacles: Obstacles, position: Vector) -> Float[Array, "m 3"]:
    """Point of each surface nearest to ``position`` [m]; masked obstacles are placed ``FAR`` away along x."""
    axis = _axis_points(obstacles, position)
    points = axis + obstacles.radius[:, None] * unit(position - axis)
    return jnp.where(obstacles.active[:, None], points, position + jnp.array([FAR, 0.0, 0.0]))


def surface_distances(obstacles: Obstacles, position: Vector) -> Float[Array, "m"]:
    """Signed distance from ``position`` to each surface [m], negative inside; ``FAR`` where masked."""
    distance = safe_norm(position - _axis_points(obstacles, position)) - obstacles.radius
    return jnp.where(obstacles.active, distance, FAR)


def swept_distances(obstacles: Obstacles, start: Vector, end: Vector, duration: float) -> Float[Array, "m"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``obstacles`` are those at its start. The squared distance to a vertical segment is convex and continuously
    differentiable along a line, so its minimum lies at an end or at the stationary point of one of its three pieces
    (beside, above, below the segment): five candidates are exact. Curvature of the path is not included.
    """
    relative = start - obstacles.centre
    motion = (end - start) - obstacles.velocity * duration
    tip = jnp.zeros_like(relative).at[:, 2].set(obstacles.half_height)
    level = jnp.array([1.0, 1.0, 0.0])

    def stationary(offset: Float[Array, "m 3"], axes: Float[Array, "3"]) -> Float[Array, "m"]:
        moved = jnp.sum(axes * motion * motion, -1)
        return jnp.clip(-jnp.sum(axes * offset * motion, -1) / jnp.maximum(moved, 1e-12), 0.0, 1.0)

    zero = jnp.zeros_like(obstacles.radius)
    candidates = [zero, zero + 1.0, stationary(relative, level), stationary(relative - tip, jnp.ones(3))]
    fractions = jnp.stack([*candidates, stationary(relative + tip, jnp.ones(3))])
    offset = relative + fractions[..., None] * motion
    beyond = jnp.maximum(jnp.abs(offset[..., 2]) - obstacles.half_height, 0.0)
    distance = jnp.min(safe_norm(offset.at[..., 2].set(beyond)), axis=0) - obstacles.radius
    return jnp.where(obstacles.active, distance, FAR)
