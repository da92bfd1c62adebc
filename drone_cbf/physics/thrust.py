"""The thrust that a multirotor can make: upwards only, tilted so far, within a floor and a ceiling."""

import math

import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.physics_config import GRAVITY, PhysicsConfig

SMALL = 1e-6  # Keeps divisions finite [m/s^2]


@struct.dataclass
class ThrustLimits:
    """Limits of the thrust per mass."""

    lowest: Scalar  # Least thrust [m/s^2]; above zero and below gravity
    highest: Scalar  # Largest thrust [m/s^2]; above gravity
    slope: Scalar  # Tangent of the largest tilt


def limits_of(config: PhysicsConfig) -> ThrustLimits:
    """The limits of the drone that ``config`` describes."""
    lowest, highest = config.thrust_range
    slope = math.tan(math.radians(config.max_tilt))
    return ThrustLimits(lowest=jnp.float32(lowest), highest=jnp.float32(highest), slope=jnp.float32(slope))


def against_gravity(acceleration: Vector) -> Vector:
    """The thrust per mass that makes a desired ``acceleration``, and carries the drone [m/s^2]."""
    return acceleration.at[2].add(GRAVITY)


def with_gravity(thrust: Vector) -> Vector:
    """The acceleration that ``thrust`` makes, gravity compensated [m/s^2]."""
    return thrust.at[2].add(-GRAVITY)


def attainable(command: Vector, limits: ThrustLimits) -> Vector:
    """The part of ``command`` [m/s^2] that thrust can follow: scaled towards hover, its direction kept.

    Admissible thrusts g + s u are an interval of s from zero, as the ball, the cone and the half-space they lie in are
    convex and contain hover. In closed form; the vertical share of the thrust keeps above the floor.
    """
    across, up = safe_norm(command[:2]), command[2]
    length, room = jnp.sum(command**2), limits.highest**2 - GRAVITY**2
    rising = GRAVITY * up
    # The larger root of |g + s u|^2 = highest^2, in the form without cancellation for a rising command.
    ceiling = room / jnp.maximum(rising + jnp.sqrt(rising**2 + length * room + SMALL), SMALL)
    tilt = limits.slope * GRAVITY / jnp.maximum(across - limits.slope * up, SMALL)
    floor = (GRAVITY - limits.lowest) / jnp.maximum(-up, SMALL)
    share = jnp.minimum(jnp.minimum(ceiling, tilt), jnp.minimum(floor, 1.0))
    return share * command
