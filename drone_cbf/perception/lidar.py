"""Scanning range sensor: unlabelled points with range noise and dropout, occluded, without velocities."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import SensorConfig
from drone_cbf.draws import standard_normal
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.obstacles import Obstacles, ray_distances

STAGGER = (0.7548776662466927, 0.5698402909980532)
"""Shift of the rays from scan to scan, as a fraction of their spacing in azimuth and elevation: the R2 sequence
(Roberts 2018), whose points fill the plane evenly however many there are."""
SKEW = 0.6180339887498949
"""Shift from row to row and from column to column, likewise (golden ratio). On a plain grid a thin trunk stands between
two columns of rays, a beam between two rows, and neither is hit."""


@struct.dataclass
class LidarErrors:
    """Errors of one reading."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    ranges: Float[Array, "n"]  # [m]
    lost: Bool[Array, "n"]  # True for rays without a return


def ray_count(config: SensorConfig) -> int:
    """Rays of one scan."""
    return config.lidar_azimuths * config.lidar_elevations


def make_lidar_errors(config: SensorConfig) -> Callable[[Scalar, int, jax.Array], LidarErrors]:
    """Function (standard deviation [m, m/s], obstacles, key) -> errors of one reading."""
    rays = ray_count(config)

    def draw(level: Scalar, obstacles: int, key: jax.Array) -> LidarErrors:
        own = level * standard_normal(jax.random.uniform(jax.random.fold_in(key, 0), (6,), jnp.float32))
        # One word per ray for both errors: in flight, drawing random numbers costs as much as casting the rays.
        words = jax.random.bits(key, (rays,), jnp.uint32)
        normal = standard_normal((words >> 12).astype(jnp.float32) * 2.0**-20)
        lost = (words & 0xFFF).astype(jnp.float32) * 2.0**-12 < config.lidar_dropout
        return LidarErrors(position=own[:3], velocity=own[3:], ranges=level * normal, lost=lost)

    return draw


def scan_directions(config: SensorConfig, scan: Int[Array, ""]) -> Float[Array, "n 3"]:
    """Unit vectors of the rays of the ``scan``-th scan, world frame, azimuths fastest.

    The pattern shifts from scan to scan, so that what falls between the rays of one is met by another's.
    """
    shift = jnp.mod(scan.astype(jnp.float32) * jnp.asarray(STAGGER, jnp.float32), 1.0)
    column = jnp.arange(config.lidar_azimuths, dtype=jnp.float32)
    row = jnp.arange(config.lidar_elevations, dtype=jnp.float32)[:, None]
    turn = (column + jnp.mod(shift[0] + SKEW * row, 1.0)) / config.lidar_azimuths
    low, high = (math.sin(math.radians(limit)) for limit in config.lidar_field)
    sine = low + (high - low) * (row + jnp.mod(shift[1] + SKEW * column, 1.0)) / config.lidar_elevations
    cosine, angle = jnp.sqrt(jnp.maximum(1.0 - sine * sine, 0.0)), 2.0 * jnp.pi * turn
    return jnp.stack([cosine * jnp.cos(angle), cosine * jnp.sin(angle), sine], -1).reshape(-1, 3).astype(jnp.float32)


def make_lidar_view(config: SensorConfig) -> Callable[[Float[Array, "n 3"], Reading], Bool[Array, "n"]]:
    """Function (offset from the drone [m], reading) -> whether a point there lies within the field of view."""
    low, high = (math.sin(math.radians(limit)) for limit in config.lidar_field)

    def in_view(offset: Float[Array, "n 3"], reading: Reading) -> Bool[Array, "n"]:
        x, y, z = (offset[:, axis] for axis in range(3))
        sine = z / jnp.sqrt(x * x + y * y + z * z + 1e-12)
        return (sine >= low - 1e-3) & (sine <= high + 1e-3)

    return in_view


def make_lidar(config: SensorConfig, time_step: float) -> Callable[..., Reading]:
    """Function (obstacles now, state, place, step, errors, their standard deviation [m]) -> reading.

    Ranges are measured from the true position, but points are placed by the measured one, as on a real drone. No
    gradient passes: the points do not move when the drone flies elsewhere.
    """
    swept = min(1.0, config.lidar_rate * time_step)
    # By the middles of the columns: a column on the edge between two sweeps would belong to both.
    middles = (jnp.arange(config.lidar_azimuths) + 0.5) / config.lidar_azimuths
    azimuth = jnp.tile(middles, config.lidar_elevations)

    def read(
        obstacles: Obstacles, state: DroneState, place: Vector, step: Array, errors: LidarErrors, noise: Scalar
    ) -> Reading:
        own = OwnMotion(position=state.position + errors.position, velocity=state.velocity + errors.velocity)
        origin, held = jax.lax.stop_gradient((state.position, own.position))
        directions = scan_directions(config, step)
        exact = ray_distances(obstacles, origin, directions, config.range)
        fired = jnp.mod(azimuth - step * swept, 1.0) < (swept if swept < 1.0 else 2.0)
        measured = jnp.maximum(exact + errors.ranges, 0.0)
        return jax.lax.stop_gradient(
            Reading(
                own=own,
                noise=noise,
                points=held + measured[:, None] * directions,
                hit=(exact < config.range) & fired & ~errors.lost,
                velocity=jnp.zeros_like(directions),
                spread=jnp.broadcast_to(noise, exact.shape),
                blind=jnp.all(errors.lost | ~fired),
            )
        ).replace(own=own)

    return read
