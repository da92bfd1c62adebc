"""Vertical capsules: exact distances for spheres, pillars and tree trunks with one primitive."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit
from drone_cbf.physics.solids.lines import FAR, GRAZING, PARALLEL, TOUCHING


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


def ray_distances(capsules: Capsules, origin: Vector, directions: Float[Array, "r 3"]) -> Float[Array, "r m"]:
    """Distance from ``origin`` to each surface along unit ``directions`` [m]; 0 from inside, ``FAR`` without a hit.

    Where a line enters the endless wall around the axis decides what it can hit first: that point of the wall, or the
    sphere of the end that it is beyond.
    """
    x, y, z = (origin - capsules.centre).T[..., None]
    along_x, along_y, along_z = directions.T
    radius, half = capsules.radius[:, None], capsules.half_height[:, None]
    # A vertical ray enters the wall far behind its origin, beyond the end that it may meet.
    squared = jnp.maximum(along_x * along_x + along_y * along_y, PARALLEL**2)
    ahead = -(x * along_x + y * along_y)
    aside = x * along_y - y * along_x
    room = squared * radius**2 - aside * aside
    meets_wall = room > GRAZING * squared
    wall = (ahead - jnp.sqrt(jnp.where(meets_wall, room, 1.0))) * (1.0 / squared)
    height = z + wall * along_z
    on_wall = jnp.abs(height) <= half

    above = z - jnp.clip(height, -half, half)
    ahead = ahead - above * along_z
    # The offset of the line from the centre as a vector: the difference of two squares would cancel far away.
    offset = (x + ahead * along_x, y + ahead * along_y, above + ahead * along_z)
    room = radius**2 - (offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2)
    meets_end = room > GRAZING
    distance = jnp.where(on_wall, wall, ahead - jnp.sqrt(jnp.where(meets_end, room, 1.0)))
    hits = meets_wall & (on_wall | meets_end) & (distance > -TOUCHING)
    inside = signed_distances(capsules, origin) < 0.0
    return jnp.where(inside[:, None], 0.0, jnp.where(hits, jnp.maximum(distance, 0.0), FAR)).T
