"""How fast surfaces approach, from ranges some tenths of a second ago: a range sensor does not report velocities.

Where a point is now, the sensor looked some time ago: if it then saw nothing nearer, within about 20 degrees, than a
place behind the point, something has come from there. At rest, the point's own surface was there, and nothing is
inferred. Only motion towards the place of then shows; across the line of sight it does not. From where something has
come is not seen: it is taken to move straight at where the sensor is now. (Taken to move at the place of then, what
crosses the way of a flying drone seems to pass behind it.)

Whether a scan shows the motion depends on where its rays fall and on their noise, so what was recognised in a direction
fades over some scans. Taken scan by scan, the drone dodged in one step and returned in the next.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector, safe_norm, unit
from drone_cbf.config import SensorConfig
from drone_cbf.perception.directions import CELLS, cell_directions, cell_of, cells_within
from drone_cbf.perception.point_map import InView, PointMap
from drone_cbf.perception.readings import Reading
from drone_cbf.physics.obstacles import FAR

SCANS = 3  # Readings whose nearest returns are taken together: one alone misses small obstacles between its rays
BESIDE = 0.33  # Largest angle between a cell and those that are looked at with it [rad]
ASIDE = 0.6  # Share of the largest speed that is assumed for what has come from the side
FADING = 0.15  # Time in which a recognised speed falls to a third, if later scans do not show it [s]
SMALLEST = 0.15  # Change of range below which nothing is inferred [m], beside three standard deviations of it


@struct.dataclass
class RangeHistory:
    """Nearest returns by direction of the last ``t`` readings, newest first, and what they have shown to approach."""

    place: Float[Array, "t 3"]  # Where each was taken, world frame [m]
    nearest: Float[Array, "t c"]  # Distance by cell [m]; zero, from which nothing is inferred, where it did not look
    speed: Float[Array, "c"]  # Of approach by cell about the drone, recognised lately [m/s]


def empty_history(config: SensorConfig, time_step: float) -> RangeHistory:
    """History before the first reading."""
    length = max(1, round(config.approach_time / time_step)) + SCANS
    return RangeHistory(
        place=jnp.zeros((length, 3), jnp.float32),
        nearest=jnp.zeros((length, CELLS), jnp.float32),
        speed=jnp.zeros(CELLS, jnp.float32),
    )


def neighbours_of_cells() -> np.ndarray:
    """Indices of the cells within :data:`BESIDE` of each, itself included and repeated to equal length, (CELLS, n)."""
    close = cells_within(BESIDE)
    longest = close.sum(1).max()
    return np.array([np.resize(np.flatnonzero(row), longest) for row in close])


def remember(history: RangeHistory, reading: Reading, position: Vector, in_view: InView) -> RangeHistory:
    """The history with one more reading, taken at the estimated ``position`` [m]; ``in_view`` of its sensor."""
    offset = reading.points - reading.own.position
    distance = jnp.where(reading.hit, jnp.sqrt(jnp.sum(offset * offset, -1)), FAR)
    looked = in_view(jnp.asarray(cell_directions()), reading)
    nearest = jnp.where(looked, FAR, 0.0).at[cell_of(offset)].min(distance)
    return history.replace(
        place=jnp.concatenate([position[None], history.place[:-1]]),
        nearest=jnp.concatenate([nearest[None], history.nearest[:-1]]),
    )


def make_approach(
    config: SensorConfig, time_step: float
) -> Callable[[RangeHistory, PointMap], tuple[RangeHistory, Float[Array, "n 3"]]]:
    """Function (history with the present reading, points) -> the history with what approaches in it, and velocity of
    each point, straight at the present place [m/s]; zero if it seems at rest."""
    steps = max(1, round(config.approach_time / time_step))
    ago, beside = steps * time_step, jnp.asarray(neighbours_of_cells())
    fading = math.exp(-time_step / FADING)

    def recognised(history: RangeHistory, points: PointMap) -> Float[Array, "n"]:
        """Speeds that this reading shows [m/s]."""
        before = jnp.min(history.nearest[steps : steps + SCANS], axis=0)
        before = jnp.min(before[beside], axis=-1)
        offset = points.points - history.place[steps]
        come = jnp.minimum(before[cell_of(offset)], config.range) - safe_norm(offset)
        doubt = SMALLEST + 3.0 * points.spread
        speed = jnp.where(come > doubt, jnp.minimum(come / ago, config.approach_speed), 0.0)
        # Faster than anything approaches: it has come from the side, and how much of that is approach is not known.
        return jnp.where(come > config.approach_speed * ago + doubt, ASIDE * config.approach_speed, speed)

    def velocities(history: RangeHistory, points: PointMap) -> tuple[RangeHistory, Float[Array, "n 3"]]:
        history, points = jax.lax.stop_gradient((history, points))
        fresh = points.known & (points.age < 1e-6)
        offset = points.points - history.place[0]
        cell, shown = cell_of(offset), jnp.where(fresh, recognised(history, points), 0.0)
        by_cell = jnp.maximum(fading * history.speed, jnp.zeros(CELLS).at[cell].max(shown))
        around = jnp.max(by_cell[beside], axis=-1)
        speed = jnp.where(fresh, around[cell], 0.0)
        return history.replace(speed=by_cell), -speed[:, None] * unit(offset)

    return velocities
