"""The policy: within the limits, indifferent to the compass, and a spring-damper at the goal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.goal_conditioned import initial_policy_params, make_policy
from tests.perception.worlds import crowd, graph_seen, random_policy, small_system
from tests.swarms import swarm_system

SIDE, _, UP = PhysicsConfig().max_acceleration
SYSTEM = small_system(physics=PhysicsConfig(max_acceleration=(SIDE, SIDE, UP)))
LIMIT = np.array(SYSTEM.physics.max_acceleration)
POLICY = jax.jit(make_policy(SYSTEM))
PARAMS = random_policy(SYSTEM)
VECTORS = ("relative_position", "relative_velocity", "goal", "velocity", "drag")


@pytest.fixture(scope="module")
def graph():
    return graph_seen(SYSTEM, crowd(0), [0.1, 0.2, 0.3], [1.0, -0.5, 0.2])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_command_keeps_to_the_limits_whatever_is_seen(graph, scale):
    stretched = graph.replace(**{name: scale * getattr(graph, name) for name in VECTORS})
    command = np.asarray(POLICY(PARAMS, stretched))
    assert np.all(np.abs(command) <= LIMIT) and np.any(command != 0.0)
    if scale > 1.0:
        assert np.any(np.abs(command) > 0.99 * LIMIT), "the limits must be reachable"


@pytest.mark.parametrize("degrees", [37.0, 90.0, 180.0])
def test_turning_the_scene_about_the_vertical_turns_the_command(graph, degrees):
    """Exactly so before saturation, which works axis by axis: the comparison undoes it."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    # Gentler than the random parameters: near saturation a command no longer says what was wanted.
    params = jax.tree.map(lambda x: 0.2 * x, PARAMS)
    turned = graph.replace(**{name: getattr(graph, name) @ jnp.asarray(turn.T, jnp.float32) for name in VECTORS})
    here, there = (np.asarray(POLICY(params, seen), np.float64) for seen in (graph, turned))
    assert np.all(np.abs(here) < 0.97 * LIMIT) and np.linalg.norm(here) > 0.5
    wanted, after = (LIMIT * np.arctanh(command / LIMIT) for command in (here, there))
    # Undoing the saturation multiplies rounding by up to 1 / (1 - 0.97^2) = 17.
    np.testing.assert_allclose(after, turn @ wanted, atol=17 * 2e-5)


def test_a_shuffled_graph_gives_the_same_command(graph):
    order = np.random.default_rng(0).permutation(SYSTEM.sensor.neighbours)
    nodes = ("relative_position", "relative_velocity", "mask")
    shuffled = graph.replace(**{name: getattr(graph, name)[order] for name in nodes})
    np.testing.assert_allclose(POLICY(PARAMS, shuffled), POLICY(PARAMS, graph), atol=2e-5)


def test_at_the_goal_at_rest_nothing_is_asked_for():
    np.testing.assert_allclose(POLICY(PARAMS, empty_graph(SYSTEM.sensor)), 0.0, atol=1e-6)


def test_the_untrained_policy_pulls_towards_the_goal_and_brakes():
    params = initial_policy_params(SYSTEM, jax.random.key(0))
    rest = empty_graph(SYSTEM.sensor)
    pulled = POLICY(params, rest.replace(goal=jnp.array([2.0, 0.0, 0.0])))
    braked = POLICY(params, rest.replace(velocity=jnp.array([0.0, 2.0, 0.0])))
    assert pulled[0] > 0.5 and np.all(np.abs(pulled[1:]) < 1e-6)
    assert braked[1] < -0.5 and np.all(np.abs(np.asarray(braked)[[0, 2]]) < 1e-6)


@pytest.mark.parametrize("place", ["at the goal at rest", "in a crowd"])
def test_the_gradient_is_that_of_central_differences(graph, place):
    with jax.enable_x64(True):
        seen = empty_graph(SYSTEM.sensor) if place == "at the goal at rest" else graph
        floats = {
            field.name: jnp.asarray(getattr(seen, field.name), float)
            for field in dataclasses.fields(seen)
            if field.metadata.get("pytree_node", True) and field.name != "mask"
            if getattr(seen, field.name) is not None
        }
        params = jax.tree.map(lambda x: jnp.asarray(x, float), PARAMS)
        policy = make_policy(SYSTEM)
        act = jax.jit(lambda x: policy(params, seen.replace(**x)))
        jacobian = jax.jit(jax.jacrev(lambda x: policy(params, seen.replace(**x))))(floats)
        assert all(np.all(np.isfinite(leaf)) for leaf in jacobian.values())
        for name in ("goal", "velocity", "drag"):
            # Small beside the epsilon of the safe norms, 1e-6, within which the goal's distance is curved.
            step = 1e-8 if place == "at the goal at rest" else 1e-6
            columns = [
                (act(floats | {name: floats[name] + e}) - act(floats | {name: floats[name] - e})) / (2.0 * step)
                for e in step * np.eye(3)
            ]
            # Rounding 1e-15 over the step; the truncation is (step / 1e-6)^2 of the slope at the goal.
            np.testing.assert_allclose(jacobian[name], np.stack(columns, -1), rtol=1e-3, atol=1e-5)


def test_the_gradient_towards_the_parameters_is_finite_at_the_goal_at_rest():
    gradient = jax.grad(lambda params: jnp.sum(POLICY(params, empty_graph(SYSTEM.sensor)) ** 2))(PARAMS)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_in_a_swarm_a_drone_ahead_may_be_passed_on_one_side_and_an_obstacle_may_not():
    system = swarm_system(2)
    flat = {"relative_position": [[-0.4, 0.0, 0.0]], "relative_velocity": [[0.8, 0.0, 0.0]], "goal": [2.0, 0.0, 0.0]}
    ahead = {name: jnp.asarray(value, jnp.float32) for name, value in flat.items()}
    node = empty_graph(system.sensor.model_copy(update={"neighbours": 1})).replace(
        **ahead, mask=jnp.ones(1, bool), velocity=jnp.array([0.4, 0.0, 0.0])
    )
    apply, params = make_policy(system), random_policy(system)
    sideways = {drones: float(apply(params, node.replace(drones=drones))[1]) for drones in (0, 1)}
    assert sideways[0] == pytest.approx(0.0, abs=1e-6)  # what is ahead is symmetrical
    assert abs(sideways[1]) > 1e-3
