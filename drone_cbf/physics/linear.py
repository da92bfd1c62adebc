"""GCBF+'s LinearDrone (Zhang et al. 2024): v' = -(1.1, 1.1, 6) v + u by Euler steps, each speed cut at 0.5 m/s.

Its command in [-1, 1] times 10 is the desired acceleration here. Its world has a period of 0.03 s and neither delay nor
wind: ``physics.time_step=0.03``, ``physics.delay=0``, ``physics.max_acceleration=10,10,10``.
"""

import jax.numpy as jnp

from drone_cbf.arrays import Vector
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.inner_loop import arriving, moved_by
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.point_mass import drag_acceleration

DRAG = (1.1, 1.1, 6.0)  # Along the world axes [1/s]
LARGEST_SPEED = 0.5  # Along each axis [m/s]


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later. ``command`` [m/s^2] is sent now; a delay is rounded up to whole periods."""
    commands, queue = arriving(state, command, params, params.delay, time_step, 1)

    def move(motion: Motion) -> Motion:
        change = commands[0] + drag_acceleration(motion.velocity, params.wind, params)
        return Motion(
            position=motion.position + time_step * motion.velocity,
            velocity=jnp.clip(motion.velocity + time_step * change, -LARGEST_SPEED, LARGEST_SPEED),
            thrust=commands[0],
        )

    motion = moved_by(move, state, time_step, gradient_decay)
    return state.replace(position=motion.position, velocity=motion.velocity, thrust=motion.thrust, queue=queue)
