"""What every policy promises: a new entry of the registry is tested by being listed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import PhysicsConfig, PolicyConfig
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
    params = scattered(jax.eval_shape(policy.init, jax.random.key(0)), seed=1)
    return policy, params, jax.jit(policy.apply, compiler_options=QUICK)


@functools.cache
def untrained(kind: str):
    """The parameters that training begins with."""
    return jax.jit(policy_of(kind)[0].init, compiler_options=QUICK)(jax.random.key(0))


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
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *graphs)
    batched = jax.jit(jax.vmap(policy.apply, in_axes=(None, None, 0)), compiler_options=QUICK)
    together = batched(params, policy.memory(), stacked)
    for index, graph in enumerate(graphs):
        ours = jax.tree.map(lambda leaf, index=index: np.asarray(leaf)[index], together)
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
    params, empty = untrained(kind), empty_graph(system_with(kind).sensor)
    _, pulled = apply(params, policy.memory(), empty.replace(goal=jnp.array([0.0, 2.0, 0.0])))
    assert pulled[1] > 0.5 and np.abs(np.asarray(pulled)[[0, 2]]).max() < 0.05
    np.testing.assert_allclose(apply(params, policy.memory(), empty)[1], 0.0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_told_the_configured_speed_the_command_is_the_usual_one_and_told_a_faster_one_it_accelerates_more(kind):
    policy, _, apply = policy_of(kind)
    far = empty_graph(system_with(kind).sensor).replace(goal=jnp.array([30.0, 0.0, 0.0]))
    params = untrained(kind)
    usual, same, slower, faster = (
        apply(params, policy.memory(speed), far)[1][0]
        for speed in (None, *(jnp.float32(x) for x in (system_with(kind).objective.max_speed, 2.0, 8.0)))
    )
    assert same == pytest.approx(float(usual), rel=1e-5)
    assert slower < usual < faster


@pytest.mark.parametrize("kind", ["graph", "steered"])
def test_no_policy_flies_faster_than_it_can_stop_within_the_range_that_it_sees(kind):
    """tau v + v^2 / (2 a) at that speed is the range without the safe radius; told 40 m/s or configured so, it keeps to
    it."""
    system = system_with(kind)
    barrier, reach = system.barrier, system.sensor.range - system.physics.drone_radius - system.barrier.safety_margin
    fastest = system.seen_speed
    assert barrier.reaction_time * fastest + fastest**2 / (2.0 * barrier.braking) == pytest.approx(reach)
    policy, _, apply = policy_of(kind)
    params, far = untrained(kind), empty_graph(system.sensor).replace(goal=jnp.array([30.0, 0.0, 0.0]))
    commands = [apply(params, policy.memory(jnp.float32(speed)), far)[1] for speed in (fastest, 40.0)]
    np.testing.assert_array_equal(*commands)
    hasty = system.model_copy(update={"objective": system.objective.model_copy(update={"max_speed": 40.0})})
    configured = make_policy(hasty)
    _, command = jax.jit(configured.apply)(params, configured.memory(), far)
    np.testing.assert_allclose(command, commands[0], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_keep_to_what_the_thrust_of_the_drone_reaches(kind):
    weak = PhysicsConfig(model="attitude", max_thrust=1.2, max_tilt=30.0)
    system = system_with(kind)
    system = system.model_copy(update={"physics": weak})
    policy, params = make_policy(system), policy_of(kind)[1]
    _, command = jax.jit(policy.apply)(params, policy.memory(), seen(1.0, 9.0, kind))
    assert weak.reach[0] < 6.0 and np.all(np.abs(command) <= np.asarray(weak.reach) + 1e-5)
    assert np.max(np.abs(command)) > 1.0
