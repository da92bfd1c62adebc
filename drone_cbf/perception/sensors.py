"""The idealised sensor ``surfaces``: labelled nearest points, as if it knew which point belongs to which obstacle."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import SensorConfig
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.obstacles import Obstacles, nearest_surface_points, surface_distances


@struct.dataclass
class Surfaces:
    """Nearest surface points around a place, world frame. Row i is obstacle i."""

    points: Float[Array, "m 3"]  # Nearest point of each surface to that place [m]
    velocity: Float[Array, "m 3"]  # Velocity of those points [m/s]
    visible: Bool[Array, "m"]  # True for surfaces within the sensing radius; other rows must not be used
    spread: Float[Array, "m"] | None = None
    """Standard deviation of each point relative to the drone, along any axis [m]; None for exact points."""
    radius: Float[Array, "m"] | None = None  # Of the ball or upright cylinder behind each point [m]; None: not known
    upright: Bool[Array, "m"] | None = None  # Whether it is an upright cylinder


@struct.dataclass
class SensorNoise:
    """Errors of one reading. Drawn for a whole flight before the scan: inside it they dominate the cost of a step."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    points: Float[Array, "m 3"]  # [m]


def draw_noise(level: Scalar, obstacles: int, key: jax.Array) -> SensorNoise:
    """Independent normal errors with standard deviation ``level`` [m, m/s] on every coordinate of one reading."""
    errors = level * jax.random.normal(key, (obstacles + 2, 3), jnp.float32)
    return SensorNoise(position=errors[0], velocity=errors[1], points=errors[2:])


@runtime_checkable
class OwnErrors(Protocol):
    """What the errors of one reading of any sensor hold."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]


def observe_motion(state: DroneState, noise: OwnErrors) -> OwnMotion:
    """Measure the drone's own position and velocity."""
    return OwnMotion(position=state.position + noise.position, velocity=state.velocity + noise.velocity)


def surfaces_around(obstacles: Obstacles, around: Vector, config: SensorConfig) -> Surfaces:
    """The exact surface points nearest to ``around`` [m] among ``obstacles`` (as they stand now)."""
    return Surfaces(
        points=nearest_surface_points(obstacles, around),
        velocity=obstacles.velocity,
        visible=obstacles.active & (surface_distances(obstacles, around) < config.range),
    )


def observe_surfaces(obstacles: Obstacles, around: Vector, noise: SensorNoise, config: SensorConfig) -> Surfaces:
    """What the sensor reads of :func:`surfaces_around`.

    ``around`` may be the place where the next command will act: from elsewhere the nearest point is another one.
    """
    exact = surfaces_around(obstacles, around, config)
    return exact.replace(points=exact.points + noise.points)


def make_surface_sensor(config: SensorConfig) -> Callable[..., Reading]:
    """Function (obstacles now, state, place, step, errors, their standard deviation [m]) -> reading around ``place``.

    Row i is obstacle i: perfect data association, which no real sensor gives.
    """

    def read(
        obstacles: Obstacles, state: DroneState, place: Vector, step: Array, errors: SensorNoise, noise: Scalar
    ) -> Reading:
        seen = observe_surfaces(obstacles, place, errors, config)
        spread = jnp.broadcast_to(noise, seen.visible.shape)
        own = observe_motion(state, errors)
        return Reading(own, noise, points=seen.points, hit=seen.visible, velocity=seen.velocity, spread=spread)

    return read
