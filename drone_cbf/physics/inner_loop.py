"""What models with an attitude share: commands as they arrive within a control period, and the path under their thrust.

The attitude does not depend on position or velocity, so it is integrated first, over the whole period. Position and
velocity follow from the thrusts that result; only there does the gradient decay act.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.point_mass import decay_temporal_gradient, drag_acceleration, limit_command
from drone_cbf.physics.quaternions import Quaternion, to_body, up_axis


def inner_steps(time_step: float, rate: float) -> int:
    """How often an inner loop of about ``rate`` [Hz] runs in one period [s]."""
    return max(1, round(time_step * rate))


def recomputed_scan(step: Callable[[Any, Any], tuple[Any, Any]], first: Any, inputs: Any) -> tuple[Any, Any]:
    """``lax.scan`` whose backward pass computes each step again: on CPU twice as fast as storing what it needs."""
    return jax.lax.scan(jax.checkpoint(step), first, inputs)


def arriving(
    state: DroneState, command: Vector, params: DroneParams, transport: Scalar, time_step: float, steps: int
) -> tuple[Float[Array, "n 3"], Float[Array, "q 3"]]:
    """The command that each of ``steps`` inner steps reads, within limits [m/s^2], and the queue afterwards.

    A command sent now arrives ``transport`` [s] later; the inner loop notices at its next step.
    """
    commands = jnp.concatenate([limit_command(command, params)[None], state.queue])
    whole = jnp.floor(transport / time_step + 1e-4)
    older_for = transport - whole * time_step
    newest = whole.astype(jnp.int32)
    begun = jnp.arange(steps) * (time_step / steps)
    late = begun < older_for - 1e-4 * time_step
    read = jnp.where(late[:, None], commands[newest + 1], commands[newest])
    return read, commands[: state.queue.shape[0]]


def carried(
    thrusts: Float[Array, "m 3"], duration: float, wind: Vector, params: DroneParams
) -> Callable[[Motion], Motion]:
    """Function from the motion before to that after m - 1 steps of ``duration`` [s].

    ``thrusts`` [m/s^2], gravity compensated, are linear in between, which is integrated exactly; drag is constant
    within a step.
    """

    def one(motion: Motion, ends: tuple[Vector, Vector]) -> tuple[Motion, None]:
        first, last = ends
        drag = drag_acceleration(motion.velocity, wind, params)
        bend = first / 3.0 + last / 6.0 + 0.5 * drag
        return Motion(
            position=motion.position + duration * motion.velocity + duration**2 * bend,
            velocity=motion.velocity + duration * (0.5 * (first + last) + drag),
            thrust=last,
        ), None

    return lambda motion: recomputed_scan(one, motion, (thrusts[:-1], thrusts[1:]))[0]


def shortest_turn(attitude: Quaternion, wanted: Vector) -> Vector:
    """The rotation that brings the upward axis to ``wanted`` (of any length), in body axes [rad]; none about that axis.

    2 sin(angle / 2) along its axis: the angle for small ones, smooth beyond 90 degrees.
    """
    up, aim = up_axis(attitude), wanted / safe_norm(wanted)
    return to_body(attitude, jnp.cross(up, aim) * jnp.sqrt(2.0 / jnp.maximum(1.0 + jnp.dot(up, aim), 0.1)))


def moved_by(move: Callable[[Motion], Motion], state: DroneState, time_step: float, gradient_decay: float) -> Motion:
    """The motion of ``state`` after a period [s] of ``move``, with the temporal gradient decay [1/s]."""
    motion = Motion(position=state.position, velocity=state.velocity, thrust=state.thrust)
    if not gradient_decay:
        return move(motion)
    return decay_temporal_gradient(move, motion, math.exp(-gradient_decay * time_step))
