"""The analytic barriers against closed forms in float64, and what the braking distance promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier, make_braking_barrier, soft_minimum
from drone_cbf.barrier.rows import make_row_reader
from drone_cbf.config import BarrierConfig, SceneConfig
from tests.barrier import reference
from tests.perception.worlds import capsules, crowd, graph_seen, small_system

SYSTEM = small_system(scene=SceneConfig())
ROUNDING = 2e-5
"""[m]: float32 at distances of up to 10 m and braking distances of up to 10 m."""
TRIALS = 20_000


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_the_soft_minimum_bounds_the_minimum_from_below_by_at_most_its_gap(count, temperature):
    values = np.random.default_rng(0).normal(size=(500, count)).astype(np.float32)
    soft = np.asarray(jax.vmap(lambda v: soft_minimum(v, 1.0, temperature))(jnp.asarray(values)))
    hard = np.minimum(values.min(-1), 1.0)
    assert np.all(soft <= hard + ROUNDING)
    assert np.all(soft >= hard - temperature * np.log(count + 1) - ROUNDING)
    every = np.concatenate([values, np.ones((500, 1))], -1).astype(np.float64)
    np.testing.assert_allclose(soft, -temperature * np.log(np.exp(-every / temperature).sum(-1)), atol=ROUNDING)


def test_the_soft_minimum_reaches_its_gap_when_all_are_equal():
    assert soft_minimum(jnp.full(8, 2.0), 2.0, 0.1) == pytest.approx(2.0 - 0.1 * np.log(9.0), abs=1e-6)


def test_the_soft_minimum_of_nothing_is_its_ceiling():
    assert soft_minimum(jnp.zeros(0), 5.0, 0.1) == pytest.approx(5.0)


def random_states(rng, count, obstacles, least=0.02, most=6.0):
    """Positions outside ``obstacles`` near a random one of them, and velocities of any speed up to 8 m/s."""
    centre, radius = np.asarray(obstacles.capsules.centre), np.asarray(obstacles.capsules.radius)
    chosen = rng.integers(len(radius), size=count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    reach = radius[chosen] + least + (most - least) * rng.uniform(size=count) ** 2
    heading = rng.normal(size=(count, 3))
    heading *= 8.0 * rng.uniform(size=(count, 1)) / np.linalg.norm(heading, axis=-1, keepdims=True)
    return (centre[chosen] + reach[:, None] * direction).astype(np.float32), heading.astype(np.float32)


def test_the_braking_barrier_of_many_obstacles_is_the_soft_minimum_of_their_margins():
    system = small_system()
    obstacles = crowd(1, count=system.sensor.neighbours, half=(2.0, 2.0, 1.0))
    positions, velocities = random_states(np.random.default_rng(2), 200, obstacles, most=3.0)
    barrier = make_braking_barrier(system)
    ours = jax.jit(jax.vmap(lambda p, v: barrier(graph_seen(system, obstacles, p, v))))(positions, velocities)
    states = list(zip(positions.astype(np.float64), velocities, strict=True))
    truth = [reference.value(p, v, obstacles, system) for p, v in states]
    outside = [reference.margins(p, 0.0 * v, obstacles, system).min() > -0.2 for p, v in states]
    assert np.sum(outside) > 100
    # At a distance of 0.1 m the direction to a point carries a rounding of 1e-5, times a speed of 8 m/s.
    np.testing.assert_allclose(np.asarray(ours)[outside], np.asarray(truth)[outside], atol=20 * ROUNDING)


@pytest.mark.parametrize("speed", [-3.0, 0.0, 2.0, 5.0])
def test_one_node_head_on_is_the_closed_form(speed):
    system, distance = SYSTEM, 2.0
    wall = capsules([[distance + 1.0, 0.0, 0.0]], 1.0)
    h = make_braking_barrier(system)(graph_seen(system, wall, [0.0, 0.0, 0.0], [speed, 0.0, 0.0]))
    barrier = system.barrier
    closing = np.log1p(np.exp(10.0 * speed)) / 10.0
    stop = barrier.reaction_time * closing + closing**2 / (2.0 * barrier.braking)
    expected = distance - system.physics.drone_radius - barrier.safety_margin - stop
    assert h == pytest.approx(expected, abs=ROUNDING)


def test_a_drone_with_a_positive_barrier_can_still_stop():
    """Reacting for tau at constant speed and then braking with a_brake, it never comes nearer than r_safe."""
    rng, barrier = np.random.default_rng(0), SYSTEM.barrier
    safe = SYSTEM.physics.drone_radius + barrier.safety_margin
    distance, speed = safe + 4.0 * rng.uniform(size=500), 6.0 * rng.uniform(size=500)
    positions = np.stack([-distance, 0 * distance, 0 * distance], -1).astype(np.float32)
    velocities = np.stack([speed, 0 * speed, 0 * speed], -1).astype(np.float32)
    ball, h = capsules([[1.0, 0.0, 0.0]], 1.0), make_braking_barrier(SYSTEM)
    values = np.asarray(jax.jit(jax.vmap(lambda p, v: h(graph_seen(SYSTEM, ball, p, v))))(positions, velocities))
    room_left = distance - safe - speed * barrier.reaction_time - speed**2 / (2.0 * barrier.braking)
    assert (values > 0).any() and (values < 0).any()
    assert np.all(room_left[values > 0] > -ROUNDING)
    assert np.all(values[room_left < 0] < ROUNDING), "the barrier may only be too cautious"


def feasibility(kind, obstacles_of, seed):
    """(h, best rate reachable minus rate needed) for random states, one world each state."""
    untightened = BarrierConfig(kind=kind, speed_tightening=0.0, noise_tightening=0.0)
    system = small_system(barrier=untightened)
    barrier = make_analytic_barrier(system)
    limit = jnp.asarray(system.physics.max_acceleration)
    obstacles = obstacles_of
    positions, velocities = random_states(np.random.default_rng(seed), TRIALS, obstacles)

    def room(position, velocity):
        graph = graph_seen(system, obstacles, position, velocity)
        row = make_row_reader(system.barrier)(barrier, graph)
        return row.value, jnp.sum(jnp.abs(row.normal) * limit) - row.offset

    return [np.asarray(x) for x in jax.jit(jax.vmap(room))(positions, velocities)]


@pytest.mark.parametrize("half_height", [0.0, 30.0])
def test_braking_is_feasible_whenever_the_barrier_is_positive(half_height):
    """For one convex obstacle a theorem: a_brake is within the limits, so (tau + c / a) sigmoid a >= closing speed."""
    one = capsules([[0.5, -0.5, 0.2]], 0.4, half_height=half_height)
    h, room = feasibility("braking", one, seed=0)
    assert np.sum(h > 0.0) > TRIALS / 4 and np.sum(h < 0.0) > TRIALS / 20
    # Rounding of a row of the order of alpha h + speed.
    assert room[h > 0.0].min() > -1e-4


def test_the_second_order_condition_of_the_distance_barrier_can_be_infeasible():
    """What the braking barrier is there for; and the check above can fail."""
    h, room = feasibility("distance_hocbf", capsules([[0.5, -0.5, 0.2]], 0.4), seed=0)
    assert np.sum(room[h > 0.0] < -1e-3) > 3


def test_braking_is_nearly_always_feasible_in_a_crowd():
    h, room = feasibility("braking", crowd(3, count=28), seed=1)
    assert np.mean(h > 0.0) > 0.2
    assert np.mean(room[h > 0.0] < -1e-4) < 0.001
