"""The scan against a Python loop of its pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.controller import (
    ControllerParams,
    make_controller,
    make_filtered_pilot,
    make_unfiltered_pilot,
)
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.perception.sensors import draw_noise, observe_motion
from drone_cbf.physics.belief import acting_motion, braking_command
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.rollout import make_rollout
from drone_cbf.safety.records import Status
from drone_cbf.scenes.families import make_scene_sampler
from tests.perception.worlds import capsules, random_barrier, random_policy, scene_of, small_system

SYSTEM = small_system(physics=PhysicsConfig(delay=0.075))
STEPS, FLIGHTS = 8, 3
ROUNDING = 1e-4
"""[m], [m/s]: float32 differently fused, over a few steps of a controller that acts on its own rounding; commands
follow them with a gain of up to 20 /s."""
NOISE = jnp.float32(0.02)


def controller_params(system=SYSTEM, policy=None):
    # A margin of some metres: the untrained barrier is cautious, so that the filter has something to do.
    return ControllerParams(
        policy=policy or random_policy(system),
        barrier=random_barrier(system),
        margin=jnp.float32(2.0),
        blend=jnp.float32(0.5),
    )


def scenes(count=FLIGHTS, family="forest", system=SYSTEM):
    keys = jax.random.split(jax.random.key(5), count)
    return jax.jit(jax.vmap(make_scene_sampler(family, "random", system.scene)))(keys)


def one(tree, index=0):
    return jax.tree.map(lambda x: x[index], tree)


def assert_close(ours, other, tolerance=ROUNDING):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), ours, other)


def without_status(trajectory):
    """Status is a verdict on a threshold, which rounding may cross."""
    return trajectory.replace(decisions=trajectory.decisions.replace(status=jnp.int32(0)))


ROLLOUT = make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), STEPS)
traces = []


@jax.jit
def fly(params, scene, noise, key):
    traces.append(None)
    return ROLLOUT(params, scene, noise, key)


@pytest.fixture(scope="module")
def world():
    return controller_params(), one(scenes()), jax.random.key(3)


@pytest.fixture(scope="module")
def flown(world):
    params, scene, key = world
    return fly(params, scene, NOISE, key)


def step_from_pieces(params, scene):
    """One step of a flight, compiled: (state, memory, errors, gust, index) -> what follows, and what is recorded."""
    dt = SYSTEM.physics.time_step
    sensor, controller = make_sensor(SYSTEM), make_controller(SYSTEM, make_filtered_pilot(SYSTEM))
    dynamics = make_dynamics(SYSTEM.physics)
    model = dynamics.params()

    @jax.jit
    def once(state, memory, errors, gust, index):
        place = controller.place(memory, observe_motion(state, errors), NOISE)
        reading = sensor.read(scene.obstacles.at(index * dt), state, place, index, errors, NOISE)
        memory, decision, graph = controller.step(params, memory, reading, scene.goal)
        after = dynamics.step(state, decision.command, model.replace(wind=scene.wind + gust))
        return after, memory, graph, decision

    return once, controller.start(scene.obstacles.active.shape[0])


def test_the_scan_is_a_python_loop_over_its_pieces(world, flown):
    params, scene, key = world
    physics, dt = SYSTEM.physics, SYSTEM.physics.time_step
    once, memory = step_from_pieces(params, scene)
    gusts = gust_history(scene.gust, SYSTEM.scene.gust_time, dt, STEPS, jax.random.fold_in(key, STEPS))

    def noise_of(index):
        return draw_noise(NOISE, scene.obstacles.active.shape[0], jax.random.fold_in(key, index))

    state = initial_state(scene.start, scene.start_velocity, physics)
    rows = []
    for index in range(STEPS):
        before = state
        state, memory, graph, decision = once(state, memory, noise_of(index), gusts[index], jnp.int32(index))
        rows.append((before, graph, decision.replace(status=jnp.int32(0))))
    states, graphs, decisions = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    ours = without_status(flown)
    assert_close(ours.states, states)
    assert_close(ours.graphs, graphs)
    assert_close(ours.last, state)
    assert_close(ours.decisions.command, decisions.command, 20 * ROUNDING)
    assert_close(ours.decisions.barrier, decisions.barrier)
    assert np.linalg.norm(ours.last.position - scene.start) > 0.01


def test_the_same_key_gives_the_same_flight_to_the_last_bit_without_compiling_again(world, flown):
    params, scene, key = world
    before = len(traces)
    again = fly(params, scene, NOISE, key)
    other = fly(jax.tree.map(lambda x: 1.01 * x, params), scene, jnp.float32(0.03), jax.random.key(4))
    assert len(traces) == before == 1
    jax.tree.map(np.testing.assert_array_equal, again, flown)
    assert np.any(np.asarray(other.graphs.relative_position) != np.asarray(flown.graphs.relative_position))


def test_a_batch_of_flights_is_each_flight_alone(world):
    params, keys = world[0], jax.random.split(jax.random.key(9), FLIGHTS)
    many = scenes()
    together = jax.jit(jax.vmap(ROLLOUT, in_axes=(None, 0, None, 0)))(params, many, NOISE, keys)
    for index in range(FLIGHTS):
        alone = fly(params, one(many, index), NOISE, keys[index])
        assert_close(one(together, index).states, alone.states)
        assert_close(one(together, index).last, alone.last)


@pytest.mark.slow
def test_a_flight_of_one_step_works(world, flown):
    params, scene, key = world
    short = jax.jit(make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), 1))(params, scene, NOISE, key)
    assert_close(short.states, jax.tree.map(lambda x: x[:1], flown.states))
    assert short.decisions.slack.shape == (1,)


def test_the_rows_of_a_trajectory_follow_one_another(world, flown):
    _, scene, _ = world
    np.testing.assert_array_equal(flown.states.position[0], scene.start)
    np.testing.assert_array_equal(flown.states.queue[1:, 0], flown.decisions.command[:-1])


def test_the_controller_sees_where_its_command_will_act():
    """Without noise and wind the graph is that of the state played out through queue and lag."""
    scene = scene_of(capsules([[3.0, 1.0, 0.0], [4.0, -1.0, 0.2]], 0.3), goal=(5.0, 0.0, 0.0))
    rollout = jax.jit(make_rollout(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS))
    flight = rollout(controller_params(), scene, jnp.float32(0.0), jax.random.key(0))
    state = jax.tree.map(lambda x: x[STEPS - 1], flight.states)
    acting = acting_motion(state, nominal_params(SYSTEM.physics), SYSTEM.physics.time_step)
    np.testing.assert_allclose(flight.graphs.goal[-1], scene.goal - acting.position, atol=ROUNDING)
    np.testing.assert_allclose(flight.graphs.velocity[-1], acting.velocity, atol=ROUNDING)
    assert np.linalg.norm(acting.position - state.position) > 0.001
    assert np.all(np.asarray(flight.decisions.status) == Status.NOMINAL) and np.all(np.isnan(flight.decisions.barrier))


def test_braking_stops_without_reversing():
    model = nominal_params(SYSTEM.physics)
    dt = SYSTEM.physics.time_step
    command = braking_command(jnp.array([100.0, -0.01, 0.0]), model, dt)
    np.testing.assert_allclose(command, [-SYSTEM.physics.max_acceleration[0], 0.01 / dt, 0.0], rtol=1e-6)
    unknown = braking_command(jnp.array([100.0, jnp.nan, jnp.inf]), model, dt)
    np.testing.assert_allclose(unknown, [-SYSTEM.physics.max_acceleration[0], 0.0, 0.0], rtol=1e-6)
