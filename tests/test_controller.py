"""The controller as one object: its memory, where it acts, and braking when it is too late."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import PolicyConfig, SensorConfig, SystemConfig
from drone_cbf.controller import (
    ControllerParams,
    Decision,
    make_controller,
    make_filtered_pilot,
    make_unavoidable,
)
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.readings import OwnMotion
from drone_cbf.perception.sensor_kinds import SENSORS, make_sensor
from drone_cbf.physics.belief import acting_motion, braking_command
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.policy.policies import POLICIES
from drone_cbf.safety.records import Status
from tests.perception.worlds import capsules, crowd, lidar_system, random_barrier, random_policy, scene_of, small_system

QUICK = {"xla_backend_optimization_level": 0}
SCENE = scene_of(crowd(0, count=10, half=(4.0, 3.0, 1.5)), goal=(4.0, 0.5, 0.0))
SLOTS = 10
HERE, SPEED = jnp.array([-0.5, 0.2, 0.1]), jnp.array([1.0, 0.0, 0.2])


def system_with(sensor: str, policy: str) -> SystemConfig:
    rays = {"lidar_azimuths": 16, "lidar_elevations": 8}
    return small_system(
        sensor=SensorConfig(kind=sensor, **rays), policy=PolicyConfig(kind=policy, features=8, node_features=8)
    )


def fits(sensor: str, policy: str) -> bool:
    """Whether the policy can fly by the sensor."""
    try:
        return bool(system_with(sensor, policy))
    except ValidationError:
        return False


QUICKLY = {("surfaces", "graph"), ("surfaces", "boundary"), ("lidar", "steered"), ("depth", "recurrent_depth")}
"""Every sensor and every policy: each pair is a program of its own to compile, and neither knows of the other."""
CASES = [
    pytest.param(sensor, policy, marks=() if (sensor, policy) in QUICKLY else pytest.mark.slow)
    for sensor in sorted(SENSORS)
    for policy in sorted(POLICIES)
    if fits(sensor, policy)
]


@functools.cache
def flown(sensor: str, policy: str):
    """(controller, (memory, position, key) -> what a step gives, compiled or not)."""
    system = system_with(sensor, policy)
    params = ControllerParams(
        policy=random_policy(system), barrier=random_barrier(system), margin=jnp.float32(0.1), blend=jnp.float32(0.5)
    )
    controller, scanner = make_controller(system, make_filtered_pilot(system)), make_sensor(system)
    noise = jnp.float32(0.02)

    def read(position, key):
        state = initial_state(position, SPEED, system.physics)
        state = state.replace(yaw=jnp.float32(0.3)) if scanner.directed else state
        errors = scanner.draw_errors(noise, SLOTS, key)
        return scanner.read(SCENE.obstacles, state, state.position, jnp.int32(0), errors, noise)

    def step(memory, position, key):
        return controller.step(params, memory, read(position, key), SCENE.goal)

    points = jax.eval_shape(read, HERE, jax.random.key(0)).points.shape[0]
    controller = dataclasses.replace(controller, start=functools.partial(controller.start, points))
    return controller, step, jax.jit(step, compiler_options=QUICK)


@pytest.mark.parametrize(("sensor", "policy"), CASES)
def test_the_memory_keeps_its_structure_and_every_command_is_within_the_limits(sensor, policy):
    controller, _, step = flown(sensor, policy)
    memory = controller.start()
    shapes = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), memory)
    assert not bool(memory.begun)
    for index in range(3):
        memory, decision, graph = step(memory, HERE + 0.05 * index * SPEED, jax.random.key(index))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory) == shapes
        assert bool(memory.begun) and tree_all_finite((memory, decision, graph))
        assert np.all(np.abs(decision.command) <= nominal_params(small_system().physics).max_acceleration)


@pytest.mark.slow
@pytest.mark.parametrize(("sensor", "policy"), CASES)
def test_a_batch_of_drones_is_each_drone_alone(sensor, policy):
    controller, plain, step = flown(sensor, policy)
    memory = step(controller.start(), HERE, jax.random.key(9))[0]
    places, keys = jnp.stack([HERE, HERE + 0.3]), jax.random.split(jax.random.key(1), 2)
    together = jax.jit(jax.vmap(plain, in_axes=(None, 0, 0)), compiler_options=QUICK)(memory, places, keys)
    for index in range(2):
        alone = step(memory, places[index], keys[index])
        ours = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        # float32, fused differently; commands follow the row with a gain of up to 20.
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=2e-3), ours, alone)


def test_every_sensor_and_every_policy_is_among_the_quick_cases():
    assert [set(names) for names in zip(*QUICKLY, strict=True)] == [set(SENSORS), set(POLICIES)]


def test_the_first_measurement_begins_the_estimate_and_later_ones_correct_it():
    controller, _, step = flown("lidar", "steered")
    memory, _, graph = step(controller.start(), HERE, jax.random.key(0))
    assert np.linalg.norm(SCENE.goal - graph.goal - HERE) < 0.3, "where it is, not at the origin"
    jumped = step(memory, HERE + 1.0, jax.random.key(0))[2]
    anew = step(controller.start(), HERE + 1.0, jax.random.key(0))[2]
    assert np.linalg.norm(jumped.goal - graph.goal) < np.linalg.norm(anew.goal - graph.goal) - 0.1


def test_the_place_asked_of_the_sensor_is_where_the_command_will_act():
    controller, _, step = flown("lidar", "steered")
    memory = step(controller.start(), HERE, jax.random.key(0))[0]
    own, noise = OwnMotion(position=HERE + 0.05 * SPEED, velocity=SPEED), jnp.float32(0.0)
    place = controller.place(memory, own, noise)
    system = lidar_system()
    drone = memory.motion.drone.replace(position=own.position, velocity=own.velocity)
    expected = acting_motion(drone, nominal_params(system.physics), system.physics.time_step).position
    # An exact measurement is all but believed; what is left is the wind that was taken from the first one.
    np.testing.assert_allclose(place, expected, atol=0.01)
    assert np.linalg.norm(place - own.position) > 0.05


def decision_of(h: float) -> Decision:
    command = jnp.array([3.0, 0.0, 0.0])
    return Decision(command=command, nominal=command, barrier=jnp.float32(h), slack=jnp.float32(0.0),
                    status=jnp.int32(Status.INTERVENED))  # fmt: skip


@pytest.mark.parametrize(("blocked", "brakes"), [(-1.0, False), (0.0, True), (0.2, True)])
def test_where_the_way_is_blocked_the_drone_brakes_and_says_so(blocked, brakes):
    system = lidar_system()
    velocity = jnp.array([2.0, 0.0, 0.0])
    graph = empty_graph(system.sensor).replace(blocked=jnp.float32(blocked), velocity=velocity)
    brake = braking_command(velocity, nominal_params(system.physics), system.physics.time_step)
    ended = make_unavoidable(system)(decision_of(0.5), graph, brake)
    assert int(ended.status) == (Status.UNAVOIDABLE if brakes else Status.INTERVENED)
    np.testing.assert_array_equal(ended.command, brake if brakes else decision_of(0.5).command)
    barrier = system.barrier
    stop = barrier.reaction_time * 2.0 + 2.0**2 / (2.0 * barrier.braking)
    depth = -(blocked + system.physics.drone_radius + barrier.safety_margin + stop)
    assert float(ended.barrier) == pytest.approx(depth if brakes else 0.5, abs=1e-5)


def test_a_lower_barrier_is_kept_and_labelled_points_block_nothing():
    system = lidar_system()
    graph = empty_graph(system.sensor).replace(blocked=jnp.float32(0.0))
    assert float(make_unavoidable(system)(decision_of(-9.0), graph, jnp.zeros(3)).barrier) == -9.0
    plain = small_system()
    before = decision_of(0.5)
    assert make_unavoidable(plain)(before, empty_graph(plain.sensor), jnp.zeros(3)) is before


def test_a_wall_between_the_drone_and_its_acting_point_ends_the_way():
    """At 5 m/s commands act 0.65 m ahead, behind this wall of trunks: seen and braked for."""
    system = lidar_system((16, 8), {"lidar_dropout": 0.0})
    wall = scene_of(capsules([[0.4, y, 0.0] for y in np.arange(-1.0, 1.01, 0.2)], 0.12, half_height=20.0))
    scanner, steps = make_sensor(system), make_controller(system, make_filtered_pilot(system))
    params = ControllerParams(
        policy=random_policy(system), barrier=random_barrier(system), margin=jnp.float32(0.0), blend=jnp.float32(0.0)
    )
    state = initial_state(jnp.zeros(3), jnp.array([5.0, 0.0, 0.0]), system.physics)

    def first(key):
        errors = scanner.draw_errors(jnp.float32(0.0), 11, key)
        reading = scanner.read(wall.obstacles, state, state.position, jnp.int32(0), errors, jnp.float32(0.0))
        return steps.step(params, steps.start(128), reading, wall.goal)

    _, decision, graph = jax.jit(first, compiler_options=QUICK)(jax.random.key(0))
    assert float(graph.blocked) > 0.1 and int(decision.status) == Status.UNAVOIDABLE
    assert float(decision.command[0]) == -system.physics.max_acceleration[0] and float(decision.barrier) < -1.0
