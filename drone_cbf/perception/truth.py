"""Privileged ground truth: what a perfect sensor would see. For teaching, losses and measurement; never for flight."""

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph, build_graph
from drone_cbf.perception.sensors import surfaces_around
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import rounding
from drone_cbf.scenes.scene import Scene


def true_graph(
    motion: Motion, scene: Scene, time: Scalar | None, system: SystemConfig, neighbours: int | None = None
) -> Graph:
    """The graph of a perfect sensor for ``motion`` at ``time`` [s], of all obstacles or the first ``neighbours``.

    ``time`` None: the obstacles are where they were drawn. (Time zero is that too, but compiles to another program.)
    """
    config = system.sensor.model_copy(update={"neighbours": neighbours or system.scene.obstacles})
    obstacles = scene.obstacles if time is None else scene.obstacles.at(time)
    surfaces = surfaces_around(obstacles, motion.position, config)
    if system.barrier.passing:
        radius, upright = rounding(obstacles, 0.5 * system.barrier.safety_margin)
        surfaces = surfaces.replace(radius=radius, upright=upright)
    return build_graph(motion, surfaces, scene.goal, make_dynamics(system.physics).params(), config)


def acting_graph(
    state: DroneState,
    drone: DroneParams,
    scene: Scene,
    time: Scalar,
    system: SystemConfig,
    neighbours: int | None = None,
) -> Graph:
    """The :func:`true_graph` where a command sent to ``drone`` in ``state`` at ``time`` [s] begins to act."""
    motion = acting_motion(state, drone, system.physics.time_step)
    return true_graph(motion, scene, time + drone.delay, system, neighbours)
