"""GCBF+'s two drones that are linear but for a cut (Zhang et al. 2024): v' = u - drag v by Euler steps, then cut.

Their command in [-1, 1], times 10 for the LinearDrone and by a mass of 0.1 kg for the DoubleIntegrator, is the desired
acceleration here. Their worlds have a period of 0.03 s and neither delay nor wind: ``physics.time_step=0.03``,
``physics.delay=0``, ``physics.max_acceleration=10,10,10``. The DoubleIntegrator flies in the plane: its speed along the
z axis is cut at zero.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from drone_cbf.arrays import Vector
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.inner_loop import arriving, moved_by
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.point_mass import drag_acceleration


@dataclass(frozen=True)
class Kind:
    """What tells one such drone from another, along the world axes."""

    drag: tuple[float, float, float]  # [1/s]
    largest_speed: tuple[float, float, float]  # [m/s]


LINEAR_DRONE = Kind(drag=(1.1, 1.1, 6.0), largest_speed=(0.5, 0.5, 0.5))
DOUBLE_INTEGRATOR = Kind(drag=(0.0, 0.0, 0.0), largest_speed=(0.5, 0.5, 0.0))


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later. ``command`` [m/s^2] is sent now; a delay is rounded up to whole periods."""
    assert params.top_speed is not None, "a drone whose speed is cut"
    top_speed = params.top_speed
    commands, queue = arriving(state, command, params, params.delay, time_step, 1)

    def move(motion: Motion) -> Motion:
        change = commands[0] + drag_acceleration(motion.velocity, params.wind, params)
        return Motion(
            position=motion.position + time_step * motion.velocity,
            velocity=jnp.clip(motion.velocity + time_step * change, -top_speed, top_speed),
            thrust=commands[0],
        )

    motion = moved_by(move, state, time_step, gradient_decay)
    return state.replace(position=motion.position, velocity=motion.velocity, thrust=motion.thrust, queue=queue)
