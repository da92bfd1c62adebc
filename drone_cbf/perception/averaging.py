"""Ranges of points averaged with those beside them.

A barrier looks at the most urgent point of many, which with noise is the one whose range came out shortest: one to
three standard deviations too near, and another one in each scan. At rest at a goal beside a surface the drone was
pushed to and fro by it. Without noise nothing is averaged.
"""

import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import safe_norm
from drone_cbf.perception.approach import RangeHistory
from drone_cbf.perception.directions import cell_of, cells_within
from drone_cbf.perception.point_map import PointMap

AROUND = 0.33  # Largest angle between the cell of a point and those it is averaged with [rad]
AGREEING = 4.0  # Standard deviations by which their ranges may differ: more is another surface
FARTHEST = 2.0  # Standard deviations by which a point becomes farther at most


def averaged(points: PointMap, ranges: RangeHistory) -> PointMap:
    """``points`` moved away from the sensor, along its line of sight, to the mean of the ranges around that agree.

    The ranges are the nearest ones by cell of the present reading, so order and duplicates of points change nothing.
    """
    offset = points.points - ranges.place[0]
    distance, nearest = safe_norm(offset), ranges.nearest[0]
    deeper: Array = nearest - distance[:, None]
    agree = jnp.asarray(cells_within(AROUND))[cell_of(offset)] & (nearest > 0.0)
    agree &= jnp.abs(deeper) < AGREEING * points.spread[:, None]
    mean = jnp.sum(jnp.where(agree, deeper, 0.0), axis=-1) / jnp.maximum(jnp.sum(agree, axis=-1), 1)
    farther = jnp.clip(mean, 0.0, FARTHEST * points.spread)
    return points.replace(points=points.points + (farther / distance)[:, None] * offset)
