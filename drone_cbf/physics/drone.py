"""What a drone is: the state that evolves and the parameters that do not. SI units, world frame, z up."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig


@struct.dataclass
class DroneState:
    """State of one drone."""

    position: Vector
    """Centre [m]."""
    velocity: Vector
    """[m/s]."""
    thrust: Vector
    """Acceleration the rotors produce now, gravity compensated [m/s^2]; follows the delayed command with a lag."""
    queue: Float[Array, "q 3"]
    """Commands already sent, newest first [m/s^2]."""


@struct.dataclass
class DroneParams:
    """Physical parameters of one drone in its air; arrays, so that a sweep is a ``vmap``."""

    lag_time: Scalar
    """Time constant of the thrust lag, 1/lambda [s]; 0 means none."""
    delay: Scalar
    """Transport delay of a command [s]."""
    linear_drag: Scalar
    """[1/s]."""
    quadratic_drag: Scalar
    """[1/m]."""
    max_acceleration: Vector
    """Largest command along each axis [m/s^2]."""
    gain: Scalar
    """Acceleration per acceleration commanded, 1 for the configured drone: its mass over the true one."""
    wind: Vector
    """Wind now [m/s]."""
    bias: Vector
    """Constant acceleration beside the model [m/s^2]: zero for a real drone, an estimator's guess for a controller."""


def queue_length(config: PhysicsConfig) -> int:
    """Commands that must be remembered so that ``config.delay`` can be simulated."""
    return math.floor(config.delay / config.time_step + 1e-4) + 1


def initial_state(position: Vector, velocity: Vector, config: PhysicsConfig) -> DroneState:
    """A drone at ``position`` [m] with ``velocity`` [m/s], rotors hovering, an empty command queue."""
    zero = jnp.zeros(3, jnp.float32)
    return DroneState(
        position=position,
        velocity=velocity,
        thrust=zero,
        queue=jnp.zeros((queue_length(config), 3), jnp.float32),
    )


def nominal_params(config: PhysicsConfig) -> DroneParams:
    """The configured drone in still air."""
    return DroneParams(
        lag_time=jnp.float32(config.lag_time),
        delay=jnp.float32(config.delay),
        linear_drag=jnp.float32(config.linear_drag),
        quadratic_drag=jnp.float32(config.quadratic_drag),
        max_acceleration=jnp.asarray(config.max_acceleration, jnp.float32),
        gain=jnp.float32(1.0),
        wind=jnp.zeros(3, jnp.float32),
        bias=jnp.zeros(3, jnp.float32),
    )
