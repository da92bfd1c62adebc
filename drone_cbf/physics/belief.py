"""What a controller believes of any drone: a double integrator behind a lag and a delay.

``lag_time``, ``delay``, drag and limits of :class:`DroneParams` are those of this belief, whatever moves the drone; for
a point mass it is exact.
"""

import jax.numpy as jnp

from drone_cbf.arrays import Vector
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.point_mass import committed_motion, drag_acceleration, lag_free_equivalent, step


def predicted(state: DroneState, command: Vector, params: DroneParams, time_step: float) -> DroneState:
    """State one period after ``command`` [m/s^2] was sent, as far as a controller knows."""
    after = step(state, command, params, time_step)
    if params.top_speed is None:
        return after
    # Without it, an estimate explains the cut by wind that brakes, and the row of the filter counts on that.
    return after.replace(velocity=jnp.clip(after.velocity, -params.top_speed, params.top_speed))


def acting_motion(state: DroneState, params: DroneParams, time_step: float) -> Motion:
    """Motion where a command sent now takes effect: queue applied, lag replaced by its lag-free equivalent."""
    motion = lag_free_equivalent(committed_motion(state, params, time_step), params)
    if params.top_speed is None:
        return motion
    # Thrust that is still there is not felt at the cut: the drone gets no faster, whatever it does.
    return motion.replace(velocity=jnp.clip(motion.velocity, -params.top_speed, params.top_speed))


def drift(motion: Motion, wind: Vector, params: DroneParams) -> Vector:
    """Acceleration without a command where one acts [m/s^2]: drag in ``wind`` [m/s] and bias."""
    return drag_acceleration(motion.velocity, wind, params)


def driven(motion: Motion, command: Vector, wind: Vector, params: DroneParams) -> Vector:
    """Acceleration under ``command`` where it acts [m/s^2]."""
    return params.gain * command + drift(motion, wind, params)


def command_limits(params: DroneParams) -> tuple[Vector, Vector]:
    """Smallest and largest command along each axis [m/s^2]."""
    return -params.max_acceleration, params.max_acceleration


def braking_command(velocity: Vector, params: DroneParams, time_step: float) -> Vector:
    """The filter's fallback: fastest stop within limits, without reversing [m/s^2]; 0 where velocity is not finite."""
    velocity = jnp.where(jnp.isfinite(velocity), velocity, 0.0)
    return jnp.clip(-velocity / time_step, *command_limits(params))


def before(position: Vector, velocity: Vector, ahead: tuple[float, float, float]) -> Vector:
    """Where a drone at constant velocity [m/s] is if its next command acts at ``position`` [m], ``ahead`` [s] of it."""
    return position - jnp.array(ahead, jnp.float32) * velocity
