"""Dead ends: a way on which a flight gets no further counts as closed, for a while and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import SensorConfig
from drone_cbf.perception.directions import cell_directions
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.dead_ends import AHEAD, ARRIVED, KEPT, PLACES, RADIUS, closed_ways, no_dead_ends, with_progress

STEP = 0.05  # [s]
AHEAD_X = np.array([1.0, 0.0, 0.0])
EMPTY = empty_graph(SensorConfig(kind="lidar"))
ADVANCE = jax.jit(lambda known, graph, heading: with_progress(known, graph, heading, STEP))
CLOSED = jax.jit(closed_ways)


def at(goal=(6.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0)):
    return EMPTY.replace(goal=jnp.asarray(goal, jnp.float32), velocity=jnp.asarray(velocity, jnp.float32))


def after(seconds, graph, known=None, heading=AHEAD_X):
    """(what is remembered after that time in the state of ``graph``, number of dead ends noticed)."""
    known, noticed = known or no_dead_ends(), 0
    for _ in range(round(seconds / STEP)):
        known, stuck = ADVANCE(known, graph, jnp.asarray(heading, jnp.float32))
        noticed += int(stuck)
    return known, noticed


def shut(known, graph) -> np.ndarray:
    return np.asarray(CLOSED(known, graph)) < float(graph.range)


def test_a_flight_that_gets_on_meets_no_dead_end_nor_one_that_hovers_at_its_goal():
    for graph in (at(velocity=(1.0, 0.0, 0.0)), at(goal=(0.9 * ARRIVED, 0.0, 0.0))):
        known, noticed = after(10.0, graph)
        assert noticed == 0 and not shut(known, graph).any()


def test_to_climb_freely_is_to_get_on_but_not_to_go_up_and_down_before_a_gap():
    up, slanting = np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.0, 0.8])
    assert after(5.0, at(velocity=(0.0, 0.0, 2.0)), heading=up)[1] == 0
    assert after(5.0, at(velocity=(0.0, 0.0, 1.0)), heading=slanting)[1] > 0


def test_a_take_off_has_a_second_to_gather_speed():
    assert after(1.0, at())[1] == 0


def test_where_a_flight_gets_no_further_the_way_ahead_is_closed_and_the_others_stay_open():
    for graph in (at(), at(velocity=(0.0, 1.0, 0.0))):
        known, noticed = after(1.5, graph)
        assert noticed == 1
        closed, cosine = shut(known, graph), cell_directions() @ AHEAD_X
        assert closed[cosine > 0.9].all()
        # It reaches up and down like a post, which may close what is steep.
        level = np.abs(cell_directions()[:, 2]) < 0.3
        assert not closed[level & (cosine < 0.4)].any() and not closed[cosine < -0.1].any()


def test_a_gap_is_closed_above_and_below_as_well():
    known, _ = after(1.5, at())
    for height in (-1.0, 1.0):
        higher = at(goal=(6.0, 0.0, -height))
        cosine = cell_directions() @ AHEAD_X
        assert shut(known.replace(goal=higher.goal), higher)[cosine > 0.9].all()


def test_a_dead_end_stays_where_it_is_as_the_drone_flies_on():
    known, _ = after(1.5, at())
    aside = at(goal=(6.0, -3.0, 0.0))  # The drone is 3 m to the left of where it was
    known = known.replace(goal=aside.goal)
    towards = np.array([AHEAD, -3.0, 0.0])
    cosine = cell_directions() @ towards / np.linalg.norm(towards)
    narrow = np.cos(np.arcsin(RADIUS / np.linalg.norm(towards)))
    level = np.abs(cell_directions()[:, 2]) < 0.05
    np.testing.assert_array_equal(shut(known, aside)[level], (cosine > narrow)[level])
    assert not shut(known, aside)[cosine < 0.8].any()


def test_it_is_forgotten_in_time_and_with_the_goal():
    graph = at()
    known, _ = after(1.5, graph)
    moving = at(velocity=(1.0, 0.0, 0.0))
    assert shut(after(KEPT - 0.5, moving, known)[0], graph).any()
    assert not shut(after(KEPT, moving, known)[0], graph).any()
    other = at(goal=(0.0, 6.0, 0.0))
    assert not shut(known, other).any()
    assert not shut(after(STEP, other, known)[0], other).any()


def test_the_latest_dead_ends_are_remembered():
    known, noticed = after(60.0, at())
    assert noticed > PLACES
    assert tree_all_finite(known)
    assert (np.asarray(known.age) < KEPT).sum() == pytest.approx(KEPT * noticed / 60.0, abs=1)


def test_the_memory_carries_no_gradient():
    graph, known = at(), after(1.5, at())[0]

    def shown(goal, velocity, heading):
        now = graph.replace(goal=goal, velocity=velocity)
        later, _ = with_progress(known, now, heading, STEP)
        return jnp.sum(later.place) + later.progress + jnp.sum(closed_ways(known, now))

    slopes = jax.jit(jax.grad(shown, argnums=(0, 1, 2)))(graph.goal, graph.velocity, jnp.asarray(AHEAD_X, jnp.float32))
    assert not np.asarray(slopes).any()
