"""The policy that sees a depth image: what it reads, what it remembers, where it looks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.config import PolicyConfig, SensorConfig, SystemConfig
from drone_cbf.controller import ControllerParams, make_controller, make_unfiltered_pilot
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.policies import initial_policy_params, make_policy
from drone_cbf.rollout import make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from tests.perception.worlds import few_obstacles, scattered

SYSTEM = SystemConfig(
    sensor=SensorConfig(kind="depth", depth_width=16, depth_height=12),
    policy=PolicyConfig(kind="recurrent_depth"),
    scene=few_obstacles(6),
)
POLICY = make_policy(SYSTEM)
APPLY = jax.jit(POLICY.apply)
UNTRAINED = initial_policy_params(SYSTEM, jax.random.key(0))
PARAMS = scattered(UNTRAINED, 0, size=0.1)
LIMIT = np.asarray(SYSTEM.physics.max_acceleration)
STEPS = 8


def some_graph(seed=0):
    draw = np.random.default_rng(seed)
    vectors = {name: jnp.asarray(draw.normal(size=3), jnp.float32) for name in ("goal", "velocity", "drag")}
    image = jnp.asarray(draw.normal(size=(12, 16)), jnp.float32)
    return empty_graph(SYSTEM.sensor).replace(image=image, yaw=jnp.float32(draw.normal()), **vectors)


def test_obstacle_positions_do_not_reach_the_policy():
    graph, draw = some_graph(), np.random.default_rng(1)
    other = graph.replace(
        relative_position=jnp.asarray(draw.normal(size=graph.relative_position.shape), jnp.float32),
        mask=~graph.mask,
        openings=0.1 * graph.openings,
        frontier=jnp.float32(0.1),
        blocked=jnp.float32(1.0),
    )
    np.testing.assert_array_equal(*(APPLY(PARAMS, POLICY.memory(), each)[1] for each in (graph, other)))
    seen = graph.replace(image=graph.image + 0.5)
    assert np.linalg.norm(APPLY(PARAMS, POLICY.memory(), seen)[1] - APPLY(PARAMS, POLICY.memory(), graph)[1]) > 1e-3


def test_turning_the_world_turns_what_it_wants():
    graph, angle = some_graph(), 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    vectors = {name: jnp.asarray(turn @ getattr(graph, name), jnp.float32) for name in ("goal", "velocity", "drag")}
    turned = graph.replace(yaw=graph.yaw + angle, **vectors)
    (here, command), (there, other) = (APPLY(PARAMS, POLICY.memory(), each) for each in (graph, turned))
    np.testing.assert_allclose(there.chosen, turn @ here.chosen, atol=1e-4)
    wanted, after = (LIMIT * np.arctanh(np.float64(each) / LIMIT) for each in (command, other))
    np.testing.assert_allclose(after, turn @ wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("distance", [0.4, 3.0, 30.0])
def test_untrained_it_flies_straight_to_the_goal_no_faster_than_it_should(distance):
    goal = distance * np.array([0.6, -0.8, 0.0])
    graph = empty_graph(SYSTEM.sensor).replace(goal=jnp.asarray(goal, jnp.float32), yaw=jnp.float32(0.4))
    memory, command = APPLY(UNTRAINED, POLICY.memory(), graph)
    speed = min(SYSTEM.objective.max_speed, distance / 0.8)
    np.testing.assert_allclose(memory.chosen, speed * goal / distance, atol=0.06 * speed)
    assert command @ goal > 0.9 * np.linalg.norm(command) * distance and np.all(np.abs(command) <= LIMIT)
    np.testing.assert_array_equal(POLICY.look(memory, graph), memory.chosen)


@pytest.fixture(scope="module")
def flown():
    """Two flights at once."""
    scenes = jax.jit(jax.vmap(make_scene_sampler("random_cloud", "random", SYSTEM.scene)))(
        jax.random.split(jax.random.key(3), 2)
    )
    rollout = make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS)
    params = ControllerParams(policy=PARAMS, barrier=None, margin=jnp.float32(0.0), blend=jnp.float32(0.0))
    keys = jax.random.split(jax.random.key(4), 2)
    return jax.jit(jax.vmap(rollout, in_axes=(None, 0, None, 0)))(params, scenes, jnp.float32(0.02), keys)


def test_memory_flows_through_a_flight_and_begins_anew_with_the_next(flown):
    for flight in range(2):
        memory, forgetful = POLICY.memory(), []
        for step in range(STEPS):
            graph = jax.tree.map(lambda leaf: leaf[flight, step], flown.graphs)
            forgetful.append(APPLY(PARAMS, POLICY.memory(), graph)[1])
            memory, command = APPLY(PARAMS, memory, graph)
            np.testing.assert_allclose(command, flown.decisions.command[flight, step], atol=1e-3)
            np.testing.assert_allclose(memory.chosen, flown.decisions.look[flight, step], atol=1e-3)
        assert np.abs(np.asarray(forgetful) - flown.decisions.command[flight])[1:].max() > 0.01


def test_in_flight_the_drone_turns_no_faster_than_it_can_and_towards_where_it_wants_to_go(flown):
    yaw = np.concatenate([flown.states.yaw, flown.last.yaw[:, None]], axis=1)
    change = np.diff(yaw, axis=1)
    largest = SYSTEM.physics.yaw_rate * SYSTEM.physics.time_step
    assert np.abs(change).max() <= largest + 1e-6 and np.abs(change).max() > 0.01
    look = np.asarray(flown.decisions.look)
    left = np.cos(yaw[:, :-1]) * look[..., 1] - np.sin(yaw[:, :-1]) * look[..., 0]
    assert np.all(change * left >= 0.0)


def test_every_flight_begins_without_memory():
    start = make_controller(SYSTEM, make_unfiltered_pilot(SYSTEM)).start(6)
    assert tree_norm(start.policy) == 0.0 and not start.begun


def test_all_of_the_network_learns_from_a_flight(flown):
    graphs = jax.tree.map(lambda leaf: leaf[0], flown.graphs)

    @jax.jit
    @jax.grad
    def gradient(params):
        _, commands = jax.lax.scan(lambda memory, graph: POLICY.apply(params, memory, graph), POLICY.memory(), graphs)
        return jnp.sum(commands[-1])

    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(PARAMS))
        if not np.linalg.norm(leaf) > 0.0
    ]
    assert not dead


def test_the_policy_asks_for_its_sensor():
    with pytest.raises(ValueError, match="recurrent_depth needs the image of a camera, but sensor.kind = lidar"):
        SystemConfig(sensor=SensorConfig(kind="lidar"), policy=PolicyConfig(kind="recurrent_depth"))
