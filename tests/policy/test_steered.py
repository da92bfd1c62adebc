"""The steered policy: straight on where it is free, else through what is open, by choice and by habit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PolicyConfig, SystemConfig
from drone_cbf.perception.directions import cell_directions
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.goal_conditioned import GoalPolicy
from drone_cbf.policy.policies import make_policy
from drone_cbf.policy.steered import REMEMBERED, no_choice, policy_module
from tests.policy.test_policies import policy_of, seen, system_with, untrained

SYSTEM = system_with("steered")
POLICY, RANDOM, APPLY = policy_of("steered")
UNTRAINED = untrained("steered")


def heading_between(memory, after) -> np.ndarray:
    """The direction chosen in a step, read from what was remembered before and after it."""
    if not np.asarray(after.chosen).any():  # A dead end: nothing of it is remembered
        return np.zeros(3)
    return (np.asarray(after.chosen, np.float64) - REMEMBERED * np.asarray(memory.chosen)) / (1.0 - REMEMBERED)


def heading(params, memory, graph) -> np.ndarray:
    """The direction chosen."""
    return heading_between(memory, APPLY(params, memory, graph)[0])


def narrowed(open_directions, goal=(6.0, 0.0, 0.0), width=0.96):
    """Everything is closed at 1 m but for the cells about these directions."""
    graph = empty_graph(SYSTEM.sensor)
    ways = np.array([np.asarray(way) / np.linalg.norm(way) for way in open_directions])
    free = (cell_directions() @ ways.T).max(-1) > width
    openings = np.where(free, np.float32(graph.range), np.float32(1.0))
    return graph.replace(goal=jnp.asarray(goal, jnp.float32), openings=jnp.asarray(openings))


def test_where_the_way_is_free_it_flies_as_the_goal_conditioned_policy_does():
    graph = empty_graph(SYSTEM.sensor).replace(goal=jnp.array([4.0, 1.0, 0.5]), velocity=jnp.array([1.0, 0.0, 0.0]))
    module: GoalPolicy = policy_module(SYSTEM).flight
    plain = jax.jit(module.apply)({"params": RANDOM["params"]["flight"]}, graph)
    np.testing.assert_allclose(APPLY(RANDOM, no_choice(), graph)[1], plain, atol=1e-3)


def test_before_a_wall_it_heads_for_the_window():
    for x in (0.0, 1.0):
        chosen = heading(UNTRAINED, no_choice(), seen(x))
        wanted = np.array([3.0 - x - 0.2, 1.2, 0.0])
        # Half a cell and the drone's way to its acting point.
        assert chosen @ wanted / np.linalg.norm(wanted) > np.cos(np.deg2rad(14.0)), x
        assert np.linalg.norm(chosen) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("way", [(1.0, 1.0, 0.0), (1.0, -1.0, 0.1), (0.2, 1.0, 0.0)])
def test_it_takes_the_only_opening_there_is(way):
    chosen = heading(UNTRAINED, no_choice(), narrowed([way]))
    assert chosen @ np.asarray(way) / np.linalg.norm(way) > np.cos(np.deg2rad(14.0))


def test_of_two_openings_as_good_it_keeps_to_the_one_it_chose_and_does_not_fly_between():
    left, right = np.array([1.0, 1.0, 0.0]), np.array([1.0, -1.0, 0.0])
    graph = narrowed([left, right])
    for way in (left, right):
        memory = no_choice().replace(chosen=jnp.asarray(way / np.linalg.norm(way), jnp.float32))
        assert heading(UNTRAINED, memory, graph) @ way / np.linalg.norm(way) > 0.95
    assert abs(heading(UNTRAINED, no_choice(), graph) @ left) / np.linalg.norm(left) < 1.01
    assert max(heading(UNTRAINED, no_choice(), graph) @ np.stack([left, right]).T) > 1.3


def test_the_memory_is_an_average_of_directions_and_carries_no_gradient():
    memory = no_choice()
    graph = seen()
    for _ in range(40):
        memory, _ = APPLY(RANDOM, memory, graph)
        assert np.linalg.norm(memory.chosen) <= 1.0 + 1e-5
    assert np.linalg.norm(memory.chosen) > 0.9

    def remembered(goal):
        after, _ = POLICY.apply(RANDOM, no_choice(), graph.replace(goal=goal))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(after))

    assert not np.asarray(jax.jit(jax.grad(remembered))(graph.goal)).any()


def test_of_two_openings_it_takes_the_other_one_if_it_gets_no_further_in_the_first():
    ways = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]) / np.sqrt(2.0)
    graph, memory, taken = narrowed(list(ways)).replace(velocity=jnp.zeros(3)), no_choice(), []
    for _ in range(60):  # Three seconds on the spot
        after, _ = APPLY(UNTRAINED, memory, graph)
        taken.append(int(np.argmax(ways @ heading_between(memory, after))))
        memory = after
    assert taken[0] == taken[15] and {taken[0], taken[40]} == {0, 1}


def test_the_choice_is_learned_through_the_direction_flown():
    def push(params):
        return POLICY.apply(params, no_choice(), seen(1.0))[1][1]

    gradient = jax.jit(jax.grad(push))(RANDOM)["params"]
    assert float(jnp.abs(gradient["score"]["kernel"]).max()) > 1e-6
    assert float(jnp.abs(gradient["score_in"]["kernel"]).max()) > 1e-6


def test_it_is_refused_where_the_sensor_shows_no_openings():
    with pytest.raises(ValueError, match="policy.kind = steered .* set sensor.kind to lidar, or policy.kind to graph"):
        SystemConfig(policy=PolicyConfig(kind="steered"))
    assert make_policy(SYSTEM).memory().chosen.shape == (3,)
