"""Random states on which the barrier is trained: the general sampler, and parts shared by the other strata."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Scalar, unit
from drone_cbf.barrier.lessons import Lesson, make_graph_lesson, make_true_lesson, uses_truth
from drone_cbf.barrier.spots import SPOT, beside_an_obstacle
from drone_cbf.config import SystemConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.perception.mapping import make_still_view
from drone_cbf.perception.others import with_one_slot
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.belief import before
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.motion import Motion, acting_at
from drone_cbf.physics.obstacles import nearest_surface_points, surface_distances, swept_distances
from drone_cbf.scenes.scene import Scene

LessonSampler = Callable[[Scene, jax.Array], Lesson]  # (scene, key) -> the lesson of one random state in it
MotionSampler = Callable[[Scene, jax.Array], Motion]
"""(scene, key) -> position [m] and velocity [m/s] of one random state in it, without thrust."""
SCANNED_NOISE = 0.05  # Largest noise of the readings of sampled states [m]
HALVINGS = 14  # Number of halvings; reduces a few metres to less than a millimetre
TOP_SPEED = 1.3  # Largest sampled speed, as a multiple of ``objective.max_speed``


def lesson_sampler(sample: MotionSampler, system: SystemConfig) -> LessonSampler:
    """The sampler of lessons in the states of ``sample``: through the system's sensor, or a perfect one."""
    if uses_truth(system):
        return _scanned_lessons(sample, system)
    of_graph, count = make_graph_lesson(system), system.sensor.neighbours
    shaped = with_one_slot if system.scene.drones > 1 else lambda graph: graph
    return lambda scene, key: of_graph(shaped(true_graph(sample(scene, key), scene, None, system, count)))


def _scanned_lessons(sample: MotionSampler, system: SystemConfig) -> LessonSampler:
    """Lessons on what the sensor shows to a drone whose commands act at the sampled state.

    Not usable where the drone itself would be inside of an obstacle, or on the other side of one.
    """
    view, of_solids = make_still_view(system), make_true_lesson(system)
    dynamics = make_dynamics(system.physics)

    def lesson(scene: Scene, key: jax.Array) -> Lesson:
        draw_key, noise_key, scan_key = jax.random.split(key, 3)
        wanted = sample(scene, draw_key)
        state = dynamics.initial(before(wanted.position, wanted.velocity, dynamics.effective.ahead), wanted.velocity)
        noise = SCANNED_NOISE * jax.random.uniform(noise_key)
        graph, motion = view(state, scene, noise, scan_key)
        passed = swept_distances(scene.obstacles, state.position, motion.position, dynamics.ahead)
        made = of_solids(graph, motion, scene, jnp.float32(0.0))
        return made.replace(usable=jnp.min(passed) > 0.0)

    return lesson


def make_open_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``open``: states at exponentially distributed distances from a random surface.

    Headings are often towards the surface, and half of the speeds are near the one at which h is zero.
    """
    cruise = top_speed(system)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, aside=(3,), aim=(), speed=(), near=(), kind=())
        position = beside_an_obstacle(scene, draw, system)
        points = nearest_surface_points(scene.obstacles, position)
        distances = surface_distances(scene.obstacles, position)
        nearest = jnp.argmin(distances)
        towards = unit(points[nearest] - position)
        heading = unit(standard_normal(draw["aside"]) + 2.0 * draw["aim"] * towards)
        speed = cruise * draw["speed"] ** 1.5
        critical = critical_speed(distances[nearest], system) * between(draw["near"], 0.6, 1.4)
        speed = jnp.where(draw["kind"] < 0.5, speed, jnp.minimum(critical, cruise))
        return acting_at(position, speed * heading)

    return sample


def bisect(above: Callable[[Scalar], jax.Array], end: float) -> Scalar:
    """Where ``above`` changes from false to true on [0, ``end``], to ``end`` / 2^14; an end point if it does not."""

    def halve(_: jax.Array, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = 0.5 * (low + high)
        beyond = above(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.float32(0.0), jnp.float32(end)))
    return 0.5 * (low + high)


def top_speed(system: SystemConfig) -> float:
    """Largest sampled speed [m/s]."""
    return TOP_SPEED * system.objective.max_speed


def critical_speed(distance: Array, system: SystemConfig) -> Array:
    """Head-on speed at which the braking barrier is zero at surface distance ``distance`` [m/s]."""
    barrier = system.barrier
    room = jnp.maximum(distance - system.physics.drone_radius - barrier.safety_margin, 0.0)
    reach = barrier.braking * barrier.reaction_time
    return jnp.sqrt(reach**2 + 2.0 * barrier.braking * room) - reach
