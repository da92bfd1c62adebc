"""Point-mass dynamics with exact thrust lag and fractional transport delay (DESIGN 4, Dynamics).

Within one period the delayed command is piecewise constant, so the lag is integrated in closed form:

    a(t) = u + (a0 - u) exp(-t/T),   v(t) = v0 + (u + d) t + (a0 - u) T (1 - exp(-t/T)),

with T the lag time and d the drag acceleration, constant over a piece: the only discretisation error, of first order.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector, safe_norm, scale_gradient
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.motion import Motion

SMALLEST_LAG = 1e-4  # Lag times below this [s] act as zero: exp(-dt/T) underflows in float32 for every allowed period


def drag_acceleration(velocity: Vector, wind: Vector, params: DroneParams) -> Vector:
    """Drag acceleration at air velocity ``velocity - wind``, plus ``params.bias`` [m/s^2]."""
    air = velocity - wind
    return params.bias - (params.linear_drag + params.quadratic_drag * safe_norm(air)) * air


def advance(motion: Motion, command: Vector, duration: Scalar, wind: Vector, params: DroneParams) -> Motion:
    """Motion after ``duration`` [s] under a constant, already delayed ``command`` [m/s^2]."""
    lag = jnp.maximum(params.lag_time, SMALLEST_LAG)
    remaining = jnp.exp(-duration / lag)
    transient = motion.thrust - command
    drag = drag_acceleration(motion.velocity, wind, params)
    steady = command + drag
    gain_velocity = lag * (1.0 - remaining)
    gain_position = lag * (duration - gain_velocity)
    return Motion(
        position=motion.position + motion.velocity * duration + 0.5 * steady * duration**2 + transient * gain_position,
        velocity=motion.velocity + steady * duration + transient * gain_velocity,
        thrust=command + transient * remaining,
    )


def decay_temporal_gradient(move: Callable[[Motion], Motion], motion: Motion, factor: float) -> Motion:
    """``move(motion)`` with the back-propagated dp'/dp and dv'/dv multiplied by ``factor`` (DiffPhysDrone).

    The cross terms dp'/dv and all derivatives with respect to the command stay exact.
    """
    damped_position = motion.replace(position=scale_gradient(motion.position, factor))
    damped_velocity = motion.replace(velocity=scale_gradient(motion.velocity, factor))
    return move(motion).replace(position=move(damped_position).position, velocity=move(damped_velocity).velocity)


def limit_command(command: Vector, params: DroneParams) -> Vector:
    """Command clipped to the limits of each axis, times the gain. The gradient along a saturated axis is zero."""
    return params.gain * jnp.clip(command, -params.max_acceleration, params.max_acceleration)


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later. ``command`` [m/s^2] is sent now and acts after ``params.delay``.

    With delay = m dt + r, command m+1 acts for the first r seconds of the period and command m for the rest, counting
    back from the newest. ``params.wind`` is constant over the period. ``gradient_decay`` is alpha [1/s].
    """
    commands = jnp.concatenate([limit_command(command, params)[None], state.queue])
    whole = jnp.floor(params.delay / time_step + 1e-4)
    older_for = jnp.clip(params.delay - whole * time_step, 0.0, time_step)
    newest = whole.astype(jnp.int32)

    def move(motion: Motion) -> Motion:
        motion = advance(motion, commands[newest + 1], older_for, params.wind, params)
        return advance(motion, commands[newest], time_step - older_for, params.wind, params)

    motion = Motion(position=state.position, velocity=state.velocity, thrust=state.thrust)
    decay = math.exp(-gradient_decay * time_step)
    motion = decay_temporal_gradient(move, motion, decay) if gradient_decay else move(motion)
    return state.replace(
        position=motion.position, velocity=motion.velocity, thrust=motion.thrust, queue=commands[: state.queue.shape[0]]
    )


def committed_motion(state: DroneState, params: DroneParams, time_step: float) -> Motion:
    """Motion when a command sent now begins to act: the queued commands applied, in the wind of ``params``."""
    motion = Motion(position=state.position, velocity=state.velocity, thrust=state.thrust)
    for age in reversed(range(state.queue.shape[0])):
        duration = jnp.clip(params.delay - age * time_step, 0.0, time_step)
        motion = advance(motion, state.queue[age], duration, params.wind, params)
    return motion


def lag_free_equivalent(motion: Motion, params: DroneParams) -> Motion:
    """The point q = p + T v with velocity z = v + T a, on which commands act without lag.

    From v' = a and T a' = u - a follow q' = z and z' = u exactly (drag aside), so a relative-degree-one condition holds
    there without approximation. p is a convex average of past q: in front of a flat obstacle p is safe whenever q is.
    """
    return Motion(
        position=motion.position + params.lag_time * motion.velocity,
        velocity=motion.velocity + params.lag_time * motion.thrust,
        thrust=jnp.zeros_like(motion.thrust),
    )
