"""What a perfect sensor would see, and how a barrier changes there: the measure of controllers that see less."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.analytic import Barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph, acting_motion, build_graph
from drone_cbf.perception.sensors import SensorNoise, observe_surfaces
from drone_cbf.physics.drone import DroneParams, DroneState, nominal_params
from drone_cbf.physics.point_mass import Motion, drag_acceleration
from drone_cbf.physics.scenes import Scene, flown_drone


def true_graph(
    motion: Motion, scene: Scene, time: Scalar, system: SystemConfig, neighbours: int | None = None
) -> Graph:
    """The graph of a drone in ``motion`` that a perfect sensor would give at ``time`` [s].

    ``neighbours`` limits its nodes; by default every obstacle finds a place.
    """
    everything = system.sensor.model_copy(update={"neighbours": neighbours or system.scene.obstacles})
    zero = jnp.zeros(3)
    exact = SensorNoise(position=zero, velocity=zero, points=jnp.zeros_like(scene.obstacles.centre))
    surfaces = observe_surfaces(scene.obstacles.at(time), motion.position, exact, everything)
    return build_graph(motion, surfaces, scene.goal, nominal_params(system.physics), everything)


def acting_graph(
    state: DroneState,
    drone: DroneParams,
    scene: Scene,
    time: Scalar,
    system: SystemConfig,
    neighbours: int | None = None,
) -> Graph:
    """The true graph of where a command that ``drone`` is sent in ``state`` at ``time`` [s] begins to act.

    See :func:`acting_motion` for that point, and :func:`true_graph` for ``neighbours``.
    """
    motion = acting_motion(state, drone, system.physics.time_step)
    return true_graph(motion, scene, time + drone.delay, system, neighbours)


def true_barrier_rate(
    barrier: Barrier, state: DroneState, command: Vector, wind: Vector, scene: Scene, time: Scalar, system: SystemConfig
) -> tuple[Scalar, Scalar]:
    """h [m] and dh/dt [m/s] of ``barrier`` where ``command`` begins to act, with the true geometry of the surfaces.

    That is the acting point (:func:`acting_motion`): the true ``state`` after the commands already sent have played
    out, a delay after ``time`` [s], and its lag-free equivalent q = p + T v, z = v + T a. Differentiates along the
    motion q' = z, z' = u + drag (:func:`lag_free_equivalent`) through the nearest points themselves, so curvature
    counts; independent of the flat-surface row that the filter uses. The true ``wind`` [m/s], which the controller does
    not know, blows as it does at ``time``.
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
