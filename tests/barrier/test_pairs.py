"""Rows of a swarm: the two halves of a pair make up the whole, along the true motion of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import softplus
from drone_cbf.barrier.analytic import PAIR, make_analytic_barrier
from drone_cbf.barrier.pairs import make_rows_reader
from drone_cbf.config import BarrierConfig, SensorConfig
from drone_cbf.perception.graphs import CLOSING_SHARPNESS, empty_graph
from drone_cbf.perception.others import of_one_row, surfaces_alone, with_others
from drone_cbf.perception.readings import Others
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.motion import acting_at
from tests.perception.worlds import PLAIN, small_system

SYSTEM = small_system(
    physics=PLAIN,
    sensor=SensorConfig(range=3.0, neighbours=2),
    barrier=BarrierConfig(features=8, speed_tightening=0.0, noise_tightening=0.0),
)
MODEL, RADIUS = make_dynamics(SYSTEM.physics).params(), SYSTEM.physics.drone_radius
PLACES = np.array([[0.0, 0.0, 0.0], [0.9, 0.3, -0.1]])
SPEEDS = np.array([[0.8, 0.1, 0.0], [-0.6, 0.0, 0.2]])
COMMANDS = np.array([[-1.0, 0.5, 0.2], [2.0, 0.0, -0.3]])


def graph_of(mine, other, seen=True):
    """What the drone ``mine`` sees of another, both as (position, velocity)."""
    motion = acting_at(jnp.asarray(mine[0], jnp.float32), jnp.asarray(mine[1], jnp.float32))
    others = Others(
        position=jnp.asarray(other[0], jnp.float32)[None],
        velocity=jnp.asarray(other[1], jnp.float32)[None],
        seen=jnp.array([seen]),
    )
    alone = empty_graph(SYSTEM.sensor).replace(velocity=motion.velocity)
    return with_others(alone, others, jnp.float32(0.0), motion, MODEL, RADIUS)


@jax.jit
def rows(graph):
    return make_rows_reader(SYSTEM.barrier)(make_analytic_barrier(SYSTEM), graph)


def both_rows():
    ends = list(zip(PLACES, SPEEDS, strict=True))
    return [rows(graph_of(ends[i], ends[1 - i])) for i in range(2)]


def exact(places, speeds):
    """h of the pair in float64 (without the soft minimum, which a single node leaves as it is)."""
    barrier, apart = SYSTEM.barrier, places[0] - places[1]
    distance = np.linalg.norm(apart)
    closing = float(softplus(-(apart / distance) @ (speeds[0] - speeds[1]), CLOSING_SHARPNESS))
    way = barrier.reaction_time * closing + closing**2 / (2.0 * PAIR * barrier.braking)
    return distance - 2.0 * RADIUS - barrier.safety_margin - way


def test_both_see_the_same_barrier_with_the_braking_of_two():
    for reading, counts in both_rows():
        assert np.array_equal(counts, [True, True])
        assert reading.value[1] == pytest.approx(exact(PLACES, SPEEDS), abs=1e-5)


def test_the_halves_add_up_to_the_condition_on_the_rate_along_the_motion_of_both():
    (mine, _), (other, _) = both_rows()
    left = sum(
        float(np.dot(row.normal[1], command)) - float(row.offset[1])
        for row, command in zip((mine, other), COMMANDS, strict=True)
    )
    step = 1e-5
    # Nodes slide along flat surfaces in the row (DESIGN 4): the rate at constant velocities is that of the distance.
    ends = [exact(PLACES, SPEEDS + sign * step * COMMANDS) for sign in (-1.0, 1.0)]
    by_command = (ends[1] - ends[0]) / (2.0 * step)
    apart = PLACES[0] - PLACES[1]
    by_motion = (apart / np.linalg.norm(apart)) @ (SPEEDS[0] - SPEEDS[1])
    whole = by_command + by_motion + SYSTEM.barrier.class_k_gain * exact(PLACES, SPEEDS)
    assert left == pytest.approx(whole, abs=2e-3)


def test_another_drone_out_of_sight_has_no_row_and_leaves_the_first_as_it_is():
    ends = list(zip(PLACES, SPEEDS, strict=True))
    unseen, counts = rows(graph_of(ends[0], ends[1], seen=False))
    seen, _ = rows(graph_of(ends[0], ends[1]))
    assert np.array_equal(counts, [True, False])
    assert unseen.value[0] == seen.value[0]
    assert np.array_equal(unseen.normal[0], seen.normal[0])


def test_a_lesson_on_a_pair_has_the_value_of_its_row():
    ends = list(zip(PLACES, SPEEDS, strict=True))
    graph = graph_of(*ends)
    barrier = make_analytic_barrier(SYSTEM)
    pair, surfaces = (of_one_row(graph, jnp.bool_(kind)) for kind in (True, False))
    assert float(barrier(pair)) == pytest.approx(exact(PLACES, SPEEDS), abs=1e-5)
    # An empty slot counts as something at the sensing radius.
    ceiling = SYSTEM.barrier.temperature * np.log(2.0)
    assert float(barrier(surfaces)) == pytest.approx(float(barrier(surfaces_alone(graph))), abs=ceiling)
    assert jax.tree.map(jnp.shape, pair) == jax.tree.map(jnp.shape, surfaces)


def test_a_drone_inside_another_is_still_pushed_away_from_it():
    inside = graph_of((np.array([0.02, 0.0, 0.0]), np.zeros(3)), (np.zeros(3), np.zeros(3)))
    reading, _ = rows(inside)
    assert reading.value[1] < 0.0
    assert reading.normal[1][0] > 0.0


def test_the_row_of_a_pair_is_the_same_behind_a_range_sensor():
    """Whose surfaces have a node for each sector of directions; the other drone belongs to none."""
    pointed = SYSTEM.model_copy(update={"sensor": SYSTEM.sensor.model_copy(update={"kind": "lidar"})})
    motion = acting_at(jnp.asarray(PLACES[0], jnp.float32), jnp.asarray(SPEEDS[0], jnp.float32))
    other = Others(*(jnp.asarray(each[1:], jnp.float32) for each in (PLACES, SPEEDS)), seen=jnp.array([True]))
    alone = empty_graph(pointed.sensor).replace(velocity=motion.velocity)
    assert alone.penalty is not None
    graph = with_others(alone, other, jnp.float32(0.0), motion, MODEL, RADIUS)
    labelled = graph_of((PLACES[0], SPEEDS[0]), (PLACES[1], SPEEDS[1]))
    seen, expected = (jax.tree.map(lambda leaf: leaf[1], rows(each)[0]) for each in (graph, labelled))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), seen, expected)


def test_separate_rows_are_those_of_graphs_of_one_surface_each():
    """Between two faces the row of both together asks for nothing across; each alone keeps the drone off."""
    alone = empty_graph(SYSTEM.sensor).replace(velocity=jnp.array([0.3, 0.0, 0.0]))
    both = alone.replace(
        relative_position=jnp.array([[0.0, 0.3, 0.0], [0.0, -0.3, 0.0]]),
        relative_velocity=jnp.tile(alone.velocity, (2, 1)),
        mask=jnp.ones(2, bool),
    )
    of_each = jax.jit(
        lambda graph: make_rows_reader(SYSTEM.barrier, separate=True)(make_analytic_barrier(SYSTEM), graph)
    )
    found, counts = of_each(both)
    assert np.array_equal(counts, [True, True])
    for index, mask in enumerate(([True, False], [False, True])):
        one, _ = rows(both.replace(mask=jnp.array(mask)))
        jax.tree.map(
            lambda ours, other, index=index: np.testing.assert_allclose(ours[index], other[0], atol=1e-5), found, one
        )
    assert found.normal[0, 1] > 0.05 and found.normal[1, 1] < -0.05
    nothing, _ = of_each(alone)
    assert np.all(nothing.normal == 0.0) and np.all(nothing.offset < 0.0)
