"""What the barrier is taught: the truth of the solids by the analytic barrier and by central differences in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.lessons import (
    make_flown_lesson,
    make_graph_lesson,
    make_true_lesson,
    sobolev_gradient,
    uses_truth,
    velocity_scale,
)
from drone_cbf.barrier.samples import lesson_sampler, make_open_sampler
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.mapping import make_still_view
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import obstacles_of
from tests.perception.worlds import boxes, capsules, crowd, graph_seen, lidar_system, scene_of, small_system
from tests.physics.solid_worlds import distances_of, mixed

SYSTEM = lidar_system()
SCENE = scene_of(mixed(7, each=2))
QUICK = {"xla_backend_optimization_level": 0}
ROUNDING = 1e-4
"""[m]: float32 distances of a few metres, through square roots and a soft minimum."""


def motion_at(position, velocity) -> Motion:
    return Motion(position=position, velocity=velocity, thrust=jnp.zeros(3, position.dtype))


@functools.cache
def places(count=40, seed=0):
    """(positions, velocities, smallest signed distance in float64 [m]) inside and outside of the solids."""
    rng = np.random.default_rng(seed)
    positions, velocities = rng.uniform(-3.0, 3.0, (count, 3)), 2.0 * rng.normal(size=(count, 3))
    positions, velocities = np.float32(positions), np.float32(velocities)
    return positions, velocities, np.min([solid(np.float64(positions)) for solid in distances_of(SCENE.obstacles)], 0)


@functools.cache
def taught():
    lesson = make_true_lesson(SYSTEM)
    graph = empty_graph(SYSTEM.sensor)

    def one(position, velocity):
        return lesson(graph, motion_at(position, velocity), SCENE, jnp.float32(0.0))

    return jax.device_get(jax.jit(jax.vmap(one), compiler_options=QUICK)(*map(jnp.asarray, places()[:2])))


def test_outside_of_solids_the_truth_is_the_analytic_barrier_of_a_perfect_sensor():
    positions, velocities, distance = places()
    analytic = make_analytic_barrier(SYSTEM)

    def one(position, velocity):
        return analytic(true_graph(motion_at(position, velocity), SCENE, None, SYSTEM, SCENE.obstacles.active.shape[0]))

    seen = np.asarray(jax.jit(jax.vmap(one), compiler_options=QUICK)(*map(jnp.asarray, (positions, velocities))))
    outside = distance > 0.01
    assert 10 < outside.sum() < len(outside) - 5
    np.testing.assert_allclose(taught().value[outside], seen[outside], atol=ROUNDING)
    np.testing.assert_array_equal(taught().collided, distance < SYSTEM.physics.drone_radius)


def test_inside_of_a_solid_the_truth_is_negative_and_rises_on_the_way_out():
    positions, _, distance = places()
    inside = distance < -0.02
    assert inside.sum() >= 5
    assert taught().value[inside].max() < -SYSTEM.physics.drone_radius
    solids = distances_of(SCENE.obstacles)
    for row in np.flatnonzero(inside):
        place, step = np.float64(positions[row]), 1e-5
        nearest = solids[np.argmin([solid(place[None])[0] for solid in solids])]
        out = np.array([(nearest((place + e)[None]) - nearest((place - e)[None]))[0] for e in step * np.eye(3)])
        assert taught().gradient[row, :3] @ out / np.linalg.norm(out) > 0.0


def test_the_gradient_of_the_truth_is_that_of_central_differences_in_float64():
    """Inside and outside; 1e-6 beside the curvature of the soft minimum and of the safe norms."""
    with jax.enable_x64(True):
        scene = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf, SCENE)
        truth = make_true_barrier(SYSTEM)

        def value(position, velocity):
            return truth(motion_at(position, velocity), scene, None)

        barrier = jax.jit(value, compiler_options=QUICK)
        slopes = jax.jit(jax.grad(value, argnums=(0, 1)), compiler_options=QUICK)
        step, scale = 1e-6, velocity_scale(SYSTEM)
        positions, velocities, distance = places()
        for row in range(0, len(positions), 4):
            given = [jnp.asarray(np.float64(each[row])) for each in (positions, velocities)]
            by_place, by_velocity = (np.asarray(slope) for slope in slopes(*given))
            for part, slope in enumerate((by_place, by_velocity)):
                moved = [
                    [each + sign * e * (index == part) for index, each in enumerate(given)]
                    for e in step * np.eye(3)
                    for sign in (1.0, -1.0)
                ]
                values = np.array([float(barrier(*one)) for one in moved]).reshape(3, 2)
                np.testing.assert_allclose(slope, (values[:, 0] - values[:, 1]) / (2.0 * step), atol=1e-5)
            both = np.concatenate([by_place, by_velocity / scale])
            np.testing.assert_allclose(taught().gradient[row], both, atol=2e-2, err_msg=f"{distance[row]:.3f} m")


def test_the_student_is_not_told_what_it_does_not_see():
    """A ball behind a wall lowers the lesson's value and leaves its graph as it was."""
    wall = boxes([[2.0, 0.0, 0.0]], [[0.05, 8.0, 8.0]])
    state = initial_state(jnp.array([0.8, 0.0, 0.0]), jnp.array([2.0, 0.0, 0.0]), SYSTEM.physics)
    flown, view = make_flown_lesson(SYSTEM), make_still_view(SYSTEM)

    @jax.jit
    def lesson(scene):
        graph, _ = view(state, scene, jnp.float32(0.02), jax.random.key(0))
        return flown(graph, state, scene, jnp.int32(0))

    def hidden(x):
        return scene_of(obstacles_of(capsules=capsules([[x, 0.0, 0.0]], 0.3).capsules, boxes=wall.boxes))

    near, far = lesson(hidden(2.25)), lesson(hidden(7.0))
    jax.tree.map(np.testing.assert_array_equal, near.graph, far.graph)
    assert near.value < far.value - 0.01


def test_a_lesson_of_a_flight_is_taken_where_and_when_a_command_acts():
    ball = capsules([[3.0, 0.0, 0.0]], 0.3, velocity=jnp.array([-2.0, 0.0, 0.0]))
    state = initial_state(jnp.zeros(3), jnp.array([1.5, 0.0, 0.0]), SYSTEM.physics)
    graph, dt = empty_graph(SYSTEM.sensor), SYSTEM.physics.time_step
    taken = jax.jit(make_flown_lesson(SYSTEM), compiler_options=QUICK)
    lesson = taken(graph, state, scene_of(ball), jnp.int32(4))
    acting = jax.jit(lambda at: acting_motion(at, nominal_params(SYSTEM.physics), dt), compiler_options=QUICK)(state)
    room = 3.0 - 2.0 * (4 * dt + SYSTEM.physics.delay) - 0.3 - float(acting.position[0])
    closing, barrier = 2.0 + float(acting.velocity[0]), SYSTEM.barrier
    stop = barrier.reaction_time * closing + closing**2 / (2.0 * barrier.braking)
    expected = room - SYSTEM.physics.drone_radius - barrier.safety_margin - stop
    assert float(lesson.value) == pytest.approx(expected, abs=1e-3)


def test_sampled_lessons_count_only_where_the_drone_could_be():
    """Not where the way to the sampled place leads through a solid; the graph shows what is in sight from before it."""
    scene = scene_of(crowd(1, count=12), start=(5.0, 5.0, 0.0))
    sampler = lesson_sampler(make_open_sampler(SYSTEM), SYSTEM)
    sample = jax.jit(jax.vmap(sampler, in_axes=(None, 0)), compiler_options=QUICK)
    lessons = jax.device_get(sample(scene, jax.random.split(jax.random.key(0), 64)))
    usable = lessons.usable
    assert 0.5 < usable.mean() < 1.0
    assert np.isfinite(lessons.value).all() and np.isfinite(lessons.gradient).all()
    blocked = lessons.graph.blocked >= 0.0
    assert blocked[usable].mean() < blocked[~usable].mean()


def test_labelled_points_are_taught_by_the_analytic_barrier_on_the_same_graph():
    system = small_system()
    assert uses_truth(SYSTEM) and not uses_truth(system)
    graph = graph_seen(system, crowd(0), [0.1, 0.2, 0.3], [1.0, -0.5, 0.2])
    lesson = make_flown_lesson(system)(graph, initial_state(jnp.zeros(3), jnp.zeros(3), system.physics), None, None)
    value, gradient = sobolev_gradient(make_analytic_barrier(system), graph, velocity_scale(system))
    np.testing.assert_array_equal(lesson.value, value)
    np.testing.assert_array_equal(lesson.gradient, gradient)
    assert bool(lesson.usable) and lesson.graph is graph
    warm = jax.jit(make_graph_lesson(system), compiler_options=QUICK)(graph, jnp.float32(0.3))
    assert float(warm.value) < float(value), "a warmer soft minimum is lower"
