"""What every policy promises: a new entry of the registry is tested by being listed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import PolicyConfig
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.mapping import make_still_view
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import initial_state
from drone_cbf.policy.policies import POLICIES, make_policy
from tests.perception.worlds import lidar_system, scattered, scene_of, wall_with_window

KINDS = sorted(POLICIES)
QUICK = {"xla_backend_optimization_level": 0}
EXACT = {"lidar_dropout": 0.0}


def system_with(kind: str):
    """Behind a scanner, or behind the camera where the policy looks at images."""
    lidar = EXACT | ({"kind": "depth"} if kind == "recurrent_depth" else {})
    return lidar_system((48, 24), lidar, policy=PolicyConfig(kind=kind, features=8, node_features=8))


@functools.cache
def policy_of(kind: str):
    """(policy, random parameters, apply compiled)."""
    policy = make_policy(system_with(kind))
    params = scattered(policy.init(jax.random.key(0)), seed=1)
    return policy, params, jax.jit(policy.apply, compiler_options=QUICK)


@functools.cache
def view(kind: str):
    """(state, scene) -> the graph of what shows, compiled once for all places."""
    still = make_still_view(system_with(kind))
    return jax.jit(lambda state, scene: still(state, scene, jnp.float32(0.0), jax.random.key(0))[0])


@functools.cache
def seen(x: float = 0.0, speed: float = 1.0, kind: str = "graph"):
    """What shows of a wall with a window beside the straight way, from the drone at ``x`` [m]."""
    system = system_with(kind)
    scene = scene_of(wall_with_window(3.0, (1.2, 0.0)), goal=(6.0, 0.0, 0.0))
    state = initial_state(jnp.array([x, 0.0, 0.0]), jnp.array([speed, 0.0, 0.0]), system.physics)
    if make_sensor(system).directed:
        state = state.replace(yaw=jnp.float32(0.0))
    return view(kind)(state, scene)


def test_every_kind_of_the_settings_has_a_policy():
    assert set(POLICIES) == set(PolicyConfig.model_fields["kind"].annotation.__args__)


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_keeps_its_structure_and_commands_their_limits(kind):
    policy, params, apply = policy_of(kind)
    memory, limit = policy.memory(), np.asarray(system_with(kind).physics.max_acceleration)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory)
    for graph in (seen(kind=kind), seen(2.2, kind=kind), empty_graph(system_with(kind).sensor), seen(1.0, 9.0, kind)):
        memory, command = apply(params, memory, graph)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory) == shapes
        assert command.shape == (3,) and command.dtype == jnp.float32
        assert np.all(np.abs(command) <= limit) and tree_all_finite((memory, command))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_each_drone_alone(kind):
    policy, params, apply = policy_of(kind)
    graphs = [seen(kind=kind), seen(2.2, kind=kind)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *graphs)
    batched = jax.jit(jax.vmap(policy.apply, in_axes=(None, None, 0)), compiler_options=QUICK)
    together = batched(params, policy.memory(), stacked)
    for index, graph in enumerate(graphs):
        ours = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        alone = apply(params, policy.memory(), graph)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4), ours, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_everywhere_also_at_the_goal_at_rest(kind):
    policy, params, _ = policy_of(kind)

    def total(params, velocity, goal, graph):
        return jnp.sum(policy.apply(params, policy.memory(), graph.replace(velocity=velocity, goal=goal))[1])

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)), compiler_options=QUICK)
    for graph in (seen(kind=kind), empty_graph(system_with(kind).sensor)):
        for goal in (jnp.array([3.0, 0.5, 0.0]), jnp.zeros(3)):
            for velocity in (jnp.array([1.0, 0.0, 0.0]), jnp.zeros(3)):
                assert tree_all_finite(gradient(params, velocity, goal, graph))


@pytest.mark.parametrize("kind", KINDS)
def test_the_untrained_policy_pulls_towards_the_goal_and_rests_at_it(kind):
    policy, _, apply = policy_of(kind)
    params, empty = policy.init(jax.random.key(0)), empty_graph(system_with(kind).sensor)
    _, pulled = apply(params, policy.memory(), empty.replace(goal=jnp.array([0.0, 2.0, 0.0])))
    assert pulled[1] > 0.5 and np.abs(np.asarray(pulled)[[0, 2]]).max() < 0.05
    np.testing.assert_allclose(apply(params, policy.memory(), empty)[1], 0.0, atol=1e-5)
