"""Position, velocity and thrust of a drone, and the double integrator that it is where its commands act."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Vector


@struct.dataclass
class Motion:
    """Position, velocity and thrust: the part of the state that is integrated under a constant command."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    thrust: Vector  # [m/s^2]


def acting_at(position: Vector, velocity: Vector) -> Motion:
    """The motion of a drone whose next command acts at ``position`` [m] and ``velocity`` [m/s], without lag."""
    return Motion(position=position, velocity=velocity, thrust=jnp.zeros(3, position.dtype))


def moved(motion: Motion, acceleration: Vector, elapsed: Scalar) -> Motion:
    """A double integrator after a short time ``elapsed`` [s], to first order: q' = z, z' = ``acceleration`` [m/s^2]."""
    return motion.replace(
        position=motion.position + elapsed * motion.velocity, velocity=motion.velocity + elapsed * acceleration
    )
