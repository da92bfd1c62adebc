"""What the barrier is taught at a state: value and gradient of the teacher, beside the graph that the student sees.

For range sensors the teacher looks at the true solids (privileged), the student at the graph of what was sensed. For
the idealised sensor ``surfaces`` both see the same graph.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit
from drone_cbf.barrier.analytic import Barrier, free_margin, make_analytic_barrier
from drone_cbf.barrier.rows import slopes
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.others import of_one_row, with_one_slot
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.scenes.scene import Scene


@struct.dataclass
class Lesson:
    """A state with the teacher's barrier there."""

    graph: Graph  # What the student sees
    value: Scalar  # h of the teacher [m]
    gradient: Float[Array, "6"]  # (dh/dp, dh/dv / `velocity_scale`), both halves of order one
    usable: Bool[Array, ""]  # False where the drone could not be: the lesson does not count
    collided: Bool[Array, ""]  # The hull touches a surface: the gradient does not count


def velocity_scale(system: SystemConfig) -> float:
    """Typical |dh/dv| at cruise speed [s]: tau + c / a_brake at half the top speed."""
    return system.barrier.reaction_time + 0.5 * system.objective.max_speed / system.barrier.braking


def sobolev_gradient(barrier: Barrier, graph: Graph, scale: float) -> tuple[Scalar, Float[Array, "6"]]:
    """h [m] and the dimensionless gradient (dh/dp, dh/dv / ``scale`` [s]), both halves of order one."""
    at = slopes(barrier, graph)
    return at.value, jnp.concatenate([at.by_position, at.by_velocity / scale])


def make_graph_lesson(system: SystemConfig) -> Callable[..., Lesson]:
    """Function (graph, soft-min temperature [m] or None for the configured one) -> lesson by the analytic barrier on
    the student's own graph."""
    scale = velocity_scale(system)

    def lesson(graph: Graph, temperature: Scalar | None = None) -> Lesson:
        teacher = make_analytic_barrier(system, temperature)
        value, gradient = sobolev_gradient(teacher, graph, scale)
        distance = jnp.where(graph.mask, safe_norm(graph.relative_position), jnp.inf)
        collided = jnp.min(distance) < system.physics.drone_radius
        return Lesson(graph=graph, value=value, gradient=gradient, usable=jnp.bool_(True), collided=collided)

    return lesson


def make_true_lesson(system: SystemConfig) -> Callable[[Graph, Motion, Scene, Scalar], Lesson]:
    """Function (graph, true motion where a command acts, scene, time then [s]) -> lesson by the true solids.

    Nor may the student promise more than it has seen of the way ahead, whatever the teacher knows.
    """
    teacher, scale = make_true_barrier(system), velocity_scale(system)

    def unseen(graph: Graph, moved: Vector, velocity: Vector) -> Scalar:
        left = jnp.asarray(graph.frontier) - jnp.dot(unit(velocity), moved)
        return free_margin(velocity, system, left)

    def lesson(graph: Graph, motion: Motion, scene: Scene, time: Scalar) -> Lesson:
        def value(position: Vector, velocity: Vector) -> Scalar:
            true = teacher(motion.replace(position=position, velocity=velocity), scene, time)
            return (
                true
                if graph.frontier is None
                else jnp.minimum(true, unseen(graph, position - motion.position, velocity))
            )

        h, (by_position, by_velocity) = jax.value_and_grad(value, argnums=(0, 1))(motion.position, motion.velocity)
        nearest = jnp.min(surface_distances(scene.obstacles.at(time), motion.position))
        return Lesson(
            graph=graph,
            value=h,
            gradient=jnp.concatenate([by_position, by_velocity / scale]),
            usable=jnp.bool_(True),
            collided=nearest < system.physics.drone_radius,
        )

    return lesson


def make_flown_lesson(system: SystemConfig) -> Callable[[Graph, DroneState, Scene, Array], Lesson]:
    """Function (graph seen, true state, scene, step) -> lesson of one step of a flight.

    In a swarm that of a single row: of the surfaces at even steps, of the nearest pair at odd ones."""
    if not uses_truth(system):
        of_graph = make_graph_lesson(system)
        if system.scene.drones == 1:
            return lambda graph, state, scene, step: of_graph(graph)
        return lambda graph, state, scene, step: of_graph(
            of_one_row(graph, step % 2 == 1) if graph.drones else with_one_slot(graph)
        )
    of_solids, model = make_true_lesson(system), make_dynamics(system.physics).params()
    dt = system.physics.time_step

    def lesson(graph: Graph, state: DroneState, scene: Scene, step: Array) -> Lesson:
        return of_solids(graph, acting_motion(state, model, dt), scene, step * dt + model.delay)

    return lesson


def uses_truth(system: SystemConfig) -> bool:
    """Whether the teacher looks at the true solids."""
    return system.sensor.kind != "surfaces"
