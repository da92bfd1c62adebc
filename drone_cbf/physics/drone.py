"""State and parameters of a drone. SI units, world frame, z up."""

import math
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig


@struct.dataclass
class DroneState:
    """State of one drone."""

    position: Vector  # Centre [m]
    velocity: Vector  # [m/s]
    thrust: Vector  # Present rotor acceleration, gravity compensated [m/s^2]; follows the delayed command with a lag
    queue: Float[Array, "q 3"]  # Commands sent but not yet fully applied, newest first [m/s^2]
    yaw: Scalar | None = None  # Heading [rad], anticlockwise from the x axis; None: nothing depends on it
    body: Any = None
    """What else moves in the drone's own model: attitude, rates, rotors; None for a point mass, and in a belief."""


@struct.dataclass
class DroneParams:
    """Physical parameters of one drone and the air around it, as arrays, so that a sweep is a ``vmap``."""

    lag_time: Scalar | Vector
    """Time constant of the thrust lag [s], of each axis if they differ; 0 for none. As controllers know it."""
    delay: Scalar  # Delay of a command [s]; as controllers know it
    linear_drag: Scalar | Vector  # [1/s], of each axis if they differ
    quadratic_drag: Scalar  # [1/m]
    max_acceleration: Vector  # Largest command along each axis [m/s^2]
    gain: Scalar  # Acceleration per commanded acceleration: nominal mass over true mass, 1 for the configured drone
    wind: Vector  # Wind now [m/s]
    bias: Vector
    """Additional constant acceleration [m/s^2]: zero in the simulator, the estimated disturbance in a controller."""
    top_speed: Vector | None = None
    """Largest speed along each axis, at which the velocity is cut [m/s]; None: it is not. As controllers know it."""
    airframe: Any = None
    """Parameters of the drone's own model, where it is more than the above: lags, inertia, rotors."""


def queue_length(delay: float, time_step: float) -> int:
    """Number of past commands needed to simulate ``delay`` [s]."""
    return math.floor(delay / time_step + 1e-4) + 1


def initial_state(position: Vector, velocity: Vector, config: PhysicsConfig) -> DroneState:
    """A point mass at ``position`` [m] with ``velocity`` [m/s], hover thrust and zero commands in the queue."""
    zero, length = jnp.zeros(3, jnp.float32), queue_length(config.longest_delay, config.time_step)
    return DroneState(position=position, velocity=velocity, thrust=zero, queue=jnp.zeros((length, 3), jnp.float32))


def nominal_params(config: PhysicsConfig) -> DroneParams:
    """Parameters of the configured point mass in still air."""
    return DroneParams(
        lag_time=jnp.float32(config.lag_time),
        delay=jnp.float32(config.delay),
        linear_drag=jnp.float32(config.linear_drag),
        quadratic_drag=jnp.float32(config.quadratic_drag),
        max_acceleration=jnp.asarray(config.reach, jnp.float32),
        gain=jnp.float32(1.0),
        wind=jnp.zeros(3, jnp.float32),
        bias=jnp.zeros(3, jnp.float32),
    )
