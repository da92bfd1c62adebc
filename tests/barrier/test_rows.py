"""The row against explicit conditions, against finite differences of the motion, and never above the true rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.barrier.rows import NEAREST, competition, make_row_reader, make_tightening, row_doubt, slopes
from drone_cbf.barrier.truth import make_true_barrier, true_barrier_rate
from drone_cbf.config import BarrierConfig, PhysicsConfig
from drone_cbf.physics.drone import initial_state
from tests.barrier import reference
from tests.barrier.precise import double_precision, slopes_of  # noqa: F401  (the first is used by being there)
from tests.perception.worlds import PLAIN, capsules, crowd, graph_seen, random_barrier, scene_of, small_system

STATES = 60
DIFFERENCES = 1e-6
"""Central differences in float64 with a step of 1e-5: the third derivative of the barrier is of the order of
1 / temperature^2 = 1e3, times 1e-10, and rounding leaves 1e-16 / 1e-5."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def row_of(config, barrier, graph):
    return make_row_reader(config)(barrier, graph)


def random_states(seed, obstacles, count=STATES):
    """States outside of every obstacle."""
    rng = np.random.default_rng(seed)
    positions, system = [], small_system()
    while len(positions) < count:
        place = rng.uniform(-2.0, 2.0, 3)
        if reference.margins(place, np.zeros(3), obstacles, system).min() > -0.1:
            positions.append(place)
    return np.stack(positions), 2.0 * rng.normal(size=(count, 3)), 4.0 * rng.normal(size=(count, 3))


def readings(system, barrier, obstacles, positions, velocities):
    untightened = system.barrier.model_copy(update={"speed_tightening": 0.0, "noise_tightening": 0.0})
    read = make_row_reader(untightened)

    def one(position, velocity):
        return read(barrier, graph_seen(system, obstacles, position, velocity))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(positions, velocities))


def row_rates(reading, commands, system):
    """The rate of h that the row reckons with: normal . u - offset - alpha h [m/s]."""
    return (reading.normal * commands).sum(-1) - reading.offset - system.barrier.class_k_gain * reading.value


@pytest.mark.parametrize("kind", ["braking", "distance_hocbf", "neural"])
def test_the_slopes_are_central_differences(kind):
    system = small_system(barrier=BarrierConfig(kind="braking" if kind == "neural" else kind, features=8))
    barrier = make_neural_barrier(system)(random_barrier(system)) if kind == "neural" else make_analytic_barrier(system)
    obstacles = crowd(0, count=system.sensor.neighbours, half=(2.0, 2.0, 2.0))
    states = map(jnp.asarray, random_states(7, obstacles)[:2])
    graphs = jax.vmap(lambda p, v: graph_seen(system, obstacles, p, v))(*states)
    ours = jax.jit(jax.vmap(lambda graph: slopes(barrier, graph)))(graphs)

    def moved(graph, position, velocity):
        relative_position = graph.relative_position + jnp.where(graph.mask[:, None], position, 0.0)
        relative_velocity = graph.relative_velocity + velocity
        return barrier(graph.replace(relative_position=relative_position, relative_velocity=relative_velocity))

    value = jax.jit(jax.vmap(moved, in_axes=(0, None, None)))
    step, zero = 1e-5, jnp.zeros(3)
    for axis, unit in enumerate(step * np.eye(3)):
        by_position = (value(graphs, unit, zero) - value(graphs, -unit, zero)) / (2 * step)
        by_velocity = (value(graphs, zero, unit) - value(graphs, zero, -unit)) / (2 * step)
        np.testing.assert_allclose(ours.by_position[:, axis], by_position, rtol=1e-5, atol=100 * DIFFERENCES)
        np.testing.assert_allclose(ours.by_velocity[:, axis], by_velocity, rtol=1e-5, atol=100 * DIFFERENCES)


def test_before_a_flat_wall_the_row_knows_the_true_rate():
    """A sphere of 1,000 km is flat: its curvature changes the rate by speed^2 / radius = 1e-5 m/s at most."""
    radius = 1e6
    system = small_system(physics=PLAIN)
    wall = capsules([[radius + 2.0, 0.0, 0.0]], radius)
    rng = np.random.default_rng(1)
    positions = rng.uniform(-1.0, 1.0, (STATES, 3))
    velocities, commands = 2.0 * rng.normal(size=(STATES, 3)), 4.0 * rng.normal(size=(STATES, 3))
    reading = readings(system, make_analytic_barrier(system), wall, positions, velocities)
    truth = [reference.rate(p, v, u, wall, system) for p, v, u in zip(positions, velocities, commands, strict=True)]
    # Distances are differences of 1e6 m, exact to 1e-10: over a step of 1e-5, 1e-5.
    np.testing.assert_allclose(row_rates(reading, commands, system), truth, atol=1e-4)


@pytest.fixture(scope="module", params=["spheres", "trunks", "both"])
def crowded(request):
    """System, obstacles, states, the row's rates and the true ones."""
    system = small_system(physics=PLAIN)
    obstacles = crowd(2, count=system.sensor.neighbours, half=(2.0, 2.0, 2.0))
    if request.param != "both":
        height = 0.0 if request.param == "spheres" else 20.0
        half_height = jnp.full(system.sensor.neighbours, height)
        obstacles = obstacles.replace(capsules=obstacles.capsules.replace(half_height=half_height))
    states = random_states(3, obstacles)
    reading = readings(system, make_analytic_barrier(system), obstacles, *states[:2])
    truth = np.array([reference.rate(p, v, u, obstacles, system) for p, v, u in zip(*states, strict=True)])
    return system, obstacles, states, row_rates(reading, states[2], system), truth


def test_the_row_never_promises_more_than_the_true_rate_of_convex_obstacles(crowded):
    _, _, _, promised, truth = crowded
    assert np.all(promised <= truth + 100 * DIFFERENCES)
    assert np.any(promised < truth - 0.1), "curvature must matter somewhere, or this shows nothing"


def test_the_true_barrier_rate_counts_curvature(crowded):
    system, obstacles, states, _, truth = crowded
    barrier = make_true_barrier(system)

    def one(position, velocity, command):
        state = initial_state(position, velocity, system.physics)
        still = jnp.zeros(3)
        return true_barrier_rate(barrier, state, command, still, scene_of(obstacles), jnp.float32(0.0), system)

    values, rates = jax.jit(jax.vmap(one))(*map(jnp.asarray, states))
    expected = [reference.value(p, v, obstacles, system) for p, v, _ in zip(*states, strict=True)]
    # The elapsed time is float32, so the derivative passes through numbers rounded to 1e-7 of themselves.
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(rates, truth, rtol=1e-4, atol=1e-4)


def test_drag_is_part_of_the_row():
    """Of two drones that differ in drag alone the offsets differ by normal . drag."""
    windy = small_system(physics=PhysicsConfig(lag_time=0.0, delay=0.0, linear_drag=0.5, quadratic_drag=0.1))
    still = small_system(physics=PLAIN)
    obstacles = crowd(2, count=6, half=(2.0, 2.0, 2.0))
    positions, velocities, _ = random_states(4, obstacles)
    barrier = make_analytic_barrier(still)
    one, other = (readings(system, barrier, obstacles, positions, velocities) for system in (windy, still))
    drag = -(0.5 + 0.1 * np.linalg.norm(velocities, axis=-1, keepdims=True)) * velocities
    np.testing.assert_array_equal(one.normal, other.normal)
    # 1e-5: the drag coefficients are float32, and speeds carry the epsilon of the safe norm.
    np.testing.assert_allclose(one.offset - other.offset, -(one.normal * drag).sum(-1), atol=1e-5)


@pytest.mark.parametrize("speed", [-1.0, 0.5, 3.0])
def test_the_distance_barriers_row_is_the_second_order_condition_head_on_at_a_wall(speed):
    """d'' + 2 alpha d' + alpha^2 d >= 0 with d' = -speed and d'' = -u_x."""
    system = small_system(physics=PLAIN, barrier=BarrierConfig(kind="distance_hocbf"))
    distance, alpha = 2.0, system.barrier.class_k_gain
    wall = capsules([[1e6 + distance, 0.0, 0.0]], 1e6)
    reading = readings(system, make_analytic_barrier(system), wall, np.zeros((1, 3)), np.array([[speed, 0.0, 0.0]]))
    d = distance - system.physics.drone_radius - system.barrier.safety_margin
    np.testing.assert_allclose(reading.normal[0], [-1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(reading.offset[0], 2.0 * alpha * speed - alpha**2 * d, rtol=1e-6)
    np.testing.assert_allclose(reading.value[0], -speed + alpha * d, rtol=1e-6)


def head_on_at_a_wall(speed, passing=0.0, spread=0.0, system=None):
    """Graph of a drone 2 m before a flat wall, with the wall's node known to ``spread`` [m]."""
    system = system or small_system(physics=PLAIN)
    wall = capsules([[1e6 + 2.0, 0.0, 0.0]], 1e6)
    graph = graph_seen(system, wall, [0.0, 0.0, 0.0], [speed, passing, 0.0])
    return graph.replace(spread=jnp.where(graph.mask, spread, 0.0))


@pytest.mark.parametrize(("speed", "passing"), [(0.0, 0.0), (2.0, 0.0), (1.0, 3.0)])
def test_the_tightening_is_the_closed_form(speed, passing):
    config = BarrierConfig(speed_tightening=0.4, noise_tightening=2.0)
    graph = head_on_at_a_wall(speed, passing, spread=0.03)
    barrier = make_analytic_barrier(small_system(physics=PLAIN))
    gain = float(np.linalg.norm(slopes_of(barrier, graph).by_velocity))
    by_node = np.hypot(1.0, gain * passing / 2.0)  # along the normal, and across it through the closing speed
    doubt = (
        by_node * 0.03 * (config.class_k_gain + (1.0 + config.class_k_gain * gain) * passing / np.hypot(2.0, NEAREST))
    )
    expected = 0.4 * np.hypot(speed, passing) + 2.0 * doubt
    # 1e-5: the epsilons of the safe norms, and a distance that is a difference of 1e6 m.
    assert make_tightening(config)(slopes_of(barrier, graph), graph) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("influence", "competing"), [([1, 0, 0], 0.0), ([3, 1, 0], 0.5), ([1, 1, 0], 1.0), ([1] * 3, 1.0)]
)
def test_nodes_compete_as_far_as_none_has_most_of_the_influence(influence, competing):
    graph = head_on_at_a_wall(2.0)
    at = slopes(make_analytic_barrier(small_system(physics=PLAIN)), graph)
    assert competition(at.replace(by_node=jnp.asarray(influence, float))) == pytest.approx(competing)


def test_at_ridges_the_speed_tightens_between_two_walls_and_not_before_one():
    barrier = make_analytic_barrier(small_system(physics=PLAIN))
    ridges = BarrierConfig(speed_tightening=0.4, speed_tightening_at="ridges", noise_tightening=2.0)
    one = head_on_at_a_wall(0.0, 2.5)
    walls = capsules([[1e6 + 2.0, 0.0, 0.0], [-1e6 - 2.0, 0.0, 0.0]], 1e6)
    between = graph_seen(small_system(physics=PLAIN), walls, [0.0, 0.0, 0.0], [0.0, 2.5, 0.0])
    between = between.replace(spread=jnp.zeros_like(between.spread))
    assert make_tightening(ridges)(slopes(barrier, one), one) == pytest.approx(0.0, abs=1e-6)
    assert make_tightening(ridges)(slopes(barrier, between), between) == pytest.approx(0.4 * 2.5, rel=1e-5)


def test_the_doubt_covers_what_a_misplaced_surface_does_to_the_row():
    """Over random directions of one standard deviation, against the rate of the displaced wall in float64."""
    system, rng = small_system(physics=PLAIN), np.random.default_rng(0)
    spread, distance, velocity = 0.01, 1.0, np.array([1.0, 2.5, -1.0])
    ball = [[distance + 1e3, 0.0, 0.0]]
    graph = graph_seen(system, capsules(ball, 1e3), np.zeros(3), velocity)
    graph = graph.replace(spread=jnp.where(graph.mask, spread, 0.0))
    barrier, alpha = make_analytic_barrier(system), system.barrier.class_k_gain
    doubt = float(row_doubt(slopes_of(barrier, graph), graph, alpha))

    def row(shift):
        moved = graph.replace(relative_position=graph.relative_position.at[0].add(jnp.asarray(shift)))
        at = slopes_of(barrier, moved)
        return float(at.drift + alpha * at.value)

    changes = [row(spread * rng.normal(size=3)) - row(np.zeros(3)) for _ in range(60)]
    assert np.std(changes) <= doubt <= 4.0 * np.std(changes)


def test_the_tightening_raises_the_offset_and_nothing_else_and_passes_no_gradient():
    system = small_system(physics=PLAIN)
    loose = system.barrier.model_copy(update={"speed_tightening": 0.0, "noise_tightening": 0.0})
    graph, barrier = head_on_at_a_wall(3.0, 1.0, spread=0.05, system=system), make_analytic_barrier(system)
    tight, plain = row_of(system.barrier, barrier, graph), row_of(loose, barrier, graph)
    raised = make_tightening(system.barrier)(slopes_of(barrier, graph), graph)
    assert tight.offset - plain.offset == pytest.approx(float(raised))
    assert tight.offset > plain.offset + 1.0
    np.testing.assert_array_equal(tight.normal, plain.normal)
    assert tight.value == plain.value

    def offset(velocity, config):
        faster = graph.replace(relative_velocity=graph.relative_velocity + velocity)
        return make_row_reader(config)(barrier, faster).offset

    gradients = [
        jax.jit(jax.grad(offset), static_argnums=1)(jnp.zeros(3), config) for config in (system.barrier, loose)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-12)


def test_the_distance_barrier_is_flown_as_the_original_was_without_tightening():
    system = small_system(physics=PLAIN, barrier=BarrierConfig(kind="distance_hocbf"))
    graph = head_on_at_a_wall(3.0, 1.0, spread=0.05, system=system)
    assert make_tightening(system.barrier)(slopes_of(make_analytic_barrier(system), graph), graph) == 0.0


def test_a_row_of_a_batch_is_the_row_alone():
    system, barrier = small_system(physics=PLAIN), make_analytic_barrier(small_system(physics=PLAIN))
    graphs = [head_on_at_a_wall(speed, 1.0, spread=0.02, system=system) for speed in (0.0, 1.0, 4.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *graphs)
    together = jax.jit(jax.vmap(lambda graph: make_row_reader(system.barrier)(barrier, graph)))(stacked)
    for index, graph in enumerate(graphs):
        alone = row_of(system.barrier, barrier, graph)
        jax.tree.map(lambda x, y, i=index: np.testing.assert_allclose(x[i], y, atol=1e-6), together, alone)
