"""Memory of unlabelled range points, in the world frame: per direction from the acting point, the nearest one.

Only the nearest point of a cell is kept, so order, density and duplicates of points change nothing, and the cost is
linear in their number. A point is replaced by newer ones of its cell. It is forgotten ``map_time`` after the last
reading that had it, because rays pass by thin obstacles; out of the sensor's view it is kept for ``map_memory``, with a
spread that grows with its age.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.config import SensorConfig
from drone_cbf.perception.directions import CELLS, cell_of
from drone_cbf.perception.readings import Reading

TIE_BREAK = (0.3183, 0.5431, 0.7771)
"""Among points of a cell that are equally far, that of the smallest product with this vector stays: the corners of a
regular grid are equally far, and not their order may decide."""
AT_DRONE = 0.02  # Distance from the drone's centre below which a point has no direction [m]
ROUNDING = 1e-6
"""Relative, of squared distances: the compiler may compute a number twice, and round it otherwise the second time."""


@struct.dataclass
class PointMap:
    """The points of ``n`` cells (or a reading), world frame."""

    points: Float[Array, "n 3"]  # [m]
    velocity: Float[Array, "n 3"]  # [m/s]
    spread: Float[Array, "n"]  # When it was read: standard deviation along any axis [m]
    age: Float[Array, "n"]  # Time since it was read [s]
    known: Bool[Array, "n"]  # False: no point there


def empty_point_map() -> PointMap:
    """Map before the first reading."""
    zero, none = jnp.zeros(CELLS, jnp.float32), jnp.zeros((CELLS, 3), jnp.float32)
    return PointMap(points=none, velocity=none, spread=zero, age=zero, known=jnp.zeros(CELLS, bool))


InView = Callable[[Float[Array, "n 3"], Reading], Bool[Array, "n"]]
"""(offset from the drone [m], reading) -> whether the sensor would have seen a point there in this reading."""


def make_gathering(
    config: SensorConfig, time_step: float, in_view: InView
) -> Callable[[PointMap, Reading, Vector], PointMap]:
    """Function (map, reading, estimated position now [m]) -> points remembered and read, leading axis of both."""

    def gather(belief: PointMap, reading: Reading, position: Vector) -> PointMap:
        belief, reading, position = jax.lax.stop_gradient((belief, reading, position))
        offset = reading.points - reading.own.position
        age = belief.age + time_step
        moved = belief.points + belief.velocity * time_step
        held = jnp.where(in_view(moved - position, reading), config.map_time, config.map_memory)
        fresh = PointMap(
            points=position + offset,
            velocity=reading.velocity,
            spread=reading.spread,
            age=jnp.zeros_like(reading.spread),
            known=reading.hit & (jnp.sum(offset * offset, -1) < config.range**2),
        )
        old = belief.replace(points=moved, age=age, known=belief.known & (age <= held + 1e-6))
        return jax.tree.map(lambda one, other: jnp.concatenate([one, other]), fresh, old)

    return gather


def nearest_in_cells(points: PointMap, place: Vector) -> PointMap:
    """Of ``points``, per direction cell about ``place`` [m], the nearest; their order has no influence."""
    place = jax.lax.stop_gradient(place)
    offset = points.points - place
    x, y, z = (offset[:, axis] for axis in range(3))
    cell, count = cell_of(offset), points.known.shape[0]
    square = jnp.where(points.known, x * x + y * y + z * z, jnp.inf)
    nearest = jnp.full(CELLS, jnp.inf).at[cell].min(square)
    side = TIE_BREAK[0] * x + TIE_BREAK[1] * y + TIE_BREAK[2] * z
    side = jnp.where((square <= (1.0 + ROUNDING) * nearest[cell]) & points.known, side, jnp.inf)
    first = jnp.full(CELLS, jnp.inf).at[cell].min(side)
    # Equal in all: copies of one point, of which any may stay.
    ours = jnp.where(jnp.isfinite(side) & (side <= first[cell] + ROUNDING), jnp.arange(count), count - 1)
    chosen: Int[Array, "c"] = jnp.full(CELLS, count - 1).at[cell].min(ours)
    found = jax.tree.map(lambda leaf: leaf[chosen], points)
    return found.replace(known=jnp.isfinite(nearest))


def spreads(points: PointMap, config: SensorConfig) -> Float[Array, "n"]:
    """Standard deviation of each point now [m]."""
    return jnp.sqrt(points.spread**2 + (config.map_doubt * points.age) ** 2)


def way_blocked(points: PointMap, start: Vector, end: Vector, radius: float, safe_radius: float) -> Scalar:
    """How far before ``end`` the hull of ``radius`` meets the first point on its way from ``start`` [m]; -1 if none.

    The way is that to the acting point, on which commands sent now have no influence any more. A point must lie within
    the hull by two standard deviations: passing it closely is no collision. The nearest point is more than a point: its
    surface stands across the line from ``start`` to it, so the hull also meets it where it touches that surface within
    ``safe_radius`` of the point. Where the barrier held, nothing is as near as that. What lies beside the way's ends is
    no matter of the way: commands still lead away from it. But from a point at the drone's very place none does.
    """
    points, start, end = jax.lax.stop_gradient((points, start, end))
    doubt = 2.0 * points.spread
    reach, near = jnp.maximum(radius - doubt, 0.4 * radius), jnp.maximum(safe_radius - doubt, 0.4 * radius)
    way = end - start
    length = safe_norm(way)
    ahead = way / length
    x, y, z = (points.points[:, axis] - start[axis] for axis in range(3))
    along = x * ahead[0] + y * ahead[1] + z * ahead[2]
    square = x * x + y * y + z * z

    def beside(distance: Float[Array, "n"]) -> Float[Array, "n"]:
        """Square of the distance to each point from the place at ``distance`` [m] on the way."""
        return square + distance * (distance - 2.0 * along)

    away = jnp.sqrt(square + 1e-12)
    # The surface is reached where away - s along / away = reach, with s the distance on the way.
    touched = (away - reach) * away / jnp.maximum(along, 1e-6)
    nearest = square <= (1.0 + ROUNDING) * jnp.min(jnp.where(points.known, square, jnp.inf))
    met = nearest & (touched <= length) & (beside(touched) < near**2)
    passed = (along > 0.0) & (along < length) & (beside(along) < reach**2)
    blocked = points.known & (met | passed | (square < AT_DRONE**2))
    return jnp.max(jnp.where(blocked, jnp.maximum(length - along, 0.0), -1.0))
