"""Privileged: how a barrier changes along the true motion, past the true surfaces."""

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.analytic import Barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import acting_motion
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.point_mass import drag_acceleration
from drone_cbf.scenes.scene import Scene, flown_drone


def true_barrier_rate(
    barrier: Barrier, state: DroneState, command: Vector, wind: Vector, scene: Scene, time: Scalar, system: SystemConfig
) -> tuple[Scalar, Scalar]:
    """h [m] and dh/dt [m/s] of ``barrier`` where ``command`` begins to act, with the true geometry of the surfaces.

    That is the acting point (:func:`acting_motion`), a delay after ``time`` [s]. Differentiates along the motion
    q' = z, z' = u + drag (:func:`lag_free_equivalent`) through the nearest points themselves, so curvature counts;
    independent of the flat-surface row that the filter uses. ``wind`` [m/s] is the true one at ``time``.
    """
    model = flown_drone(scene, system.physics).replace(wind=wind)
    motion = acting_motion(state, model, system.physics.time_step)
    acceleration = model.gain * command + drag_acceleration(motion.velocity, wind, model)

    def value(elapsed: Scalar) -> Scalar:
        later = motion.replace(
            position=motion.position + elapsed * motion.velocity, velocity=motion.velocity + elapsed * acceleration
        )
        return barrier(true_graph(later, scene, time + model.delay + elapsed, system))

    return jax.jvp(value, (jnp.float32(0.0),), (jnp.float32(1.0),))
