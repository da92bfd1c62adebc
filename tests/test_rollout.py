"""The scan against a Python loop of its pieces, and its gradients through the filter over long flights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite, tree_norm
from drone_cbf.config import PhysicsConfig, SensorConfig
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.perception.estimation import first_estimate, make_correction, model_of, position_spread, predict
from drone_cbf.perception.graphs import acting_motion, graph_at
from drone_cbf.perception.sensors import draw_noise, observe_motion, observe_surfaces
from drone_cbf.perception.surface_map import believed_surfaces, empty_map, make_surface_update
from drone_cbf.physics.disturbances import gust_history
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.point_mass import step
from drone_cbf.physics.scenes import make_scene_sampler
from drone_cbf.policy.goal_conditioned import initial_policy_params
from drone_cbf.rollout import (
    ControllerParams,
    braking_command,
    make_filtered_controller,
    make_rollout,
    make_unfiltered_controller,
)
from drone_cbf.safety.records import Status
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


ROLLOUT = make_rollout(SYSTEM, make_filtered_controller(SYSTEM), STEPS)
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


def test_the_scan_is_a_python_loop_over_its_pieces(world, flown):
    params, scene, key = world
    physics, dt = SYSTEM.physics, SYSTEM.physics.time_step
    controller, correct = make_filtered_controller(SYSTEM), make_correction(SYSTEM.sensor, dt)
    model, track = nominal_params(physics), make_surface_update(SYSTEM.sensor, dt)
    gusts = gust_history(scene.gust, SYSTEM.scene.gust_time, dt, STEPS, jax.random.fold_in(key, STEPS))

    def noise_of(index):
        return draw_noise(NOISE, scene.obstacles.radius.shape[0], jax.random.fold_in(key, index))

    @jax.jit
    def once(state, predicted, seen, errors, gust, time):
        estimate = correct(predicted, observe_motion(state, errors), NOISE)
        believed = model_of(estimate, model)
        motion = acting_motion(estimate.drone, believed, dt)
        surfaces = observe_surfaces(scene.obstacles.at(time), motion.position, errors, SYSTEM.sensor)
        seen = track(seen, surfaces, motion.position, NOISE)
        surfaces = believed_surfaces(
            seen, surfaces, motion.position, position_spread(estimate, model.delay + model.lag_time)
        )
        graph = graph_at(motion, surfaces, scene.goal, believed, SYSTEM.sensor)
        decision = controller(params, graph)
        after = step(state, decision.command, model.replace(wind=scene.wind + gust), dt)
        predicted = predict(estimate, decision.command, model, dt, SYSTEM.sensor.bias_drift)
        return after, predicted, seen, graph, decision

    state = initial_state(scene.start, scene.start_velocity, physics)
    predicted = first_estimate(observe_motion(state, noise_of(0)), state, NOISE, SYSTEM.sensor)
    seen = empty_map(scene.obstacles.radius.shape[0])
    rows = []
    for index in range(STEPS):
        before = state
        time = jnp.float32(index * dt)
        state, predicted, seen, graph, decision = once(state, predicted, seen, noise_of(index), gusts[index], time)
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


def test_a_flight_of_one_step_works(world, flown):
    params, scene, key = world
    short = jax.jit(make_rollout(SYSTEM, make_filtered_controller(SYSTEM), 1))(params, scene, NOISE, key)
    assert_close(short.states, jax.tree.map(lambda x: x[:1], flown.states))
    assert short.decisions.slack.shape == (1,)


def test_the_rows_of_a_trajectory_follow_one_another(world, flown):
    _, scene, _ = world
    np.testing.assert_array_equal(flown.states.position[0], scene.start)
    np.testing.assert_array_equal(flown.states.queue[1:, 0], flown.decisions.command[:-1])


def test_the_controller_sees_where_its_command_will_act():
    """Without noise and wind the graph is that of the state played out through queue and lag."""
    scene = scene_of(capsules([[3.0, 1.0, 0.0], [4.0, -1.0, 0.2]], 0.3), goal=(5.0, 0.0, 0.0))
    rollout = jax.jit(make_rollout(SYSTEM, make_unfiltered_controller(SYSTEM), STEPS))
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


@pytest.mark.slow
def test_rematerialising_changes_no_gradient(world):
    params, scene, key = world
    loss = make_flight_loss(SYSTEM, filtered=False)
    gradients = []
    for rematerialise in (False, True):
        rollout = make_rollout(SYSTEM, make_unfiltered_controller(SYSTEM), STEPS, rematerialise=rematerialise)

        def total(policy, rollout=rollout):
            return sum(loss(rollout(params.replace(policy=policy), scene, NOISE, key), scene).values())

        gradients.append(jax.jit(jax.grad(total))(params.policy))
    size = float(tree_norm(gradients[0]))
    assert size > 1e-3
    # 1e-3: the two orders of rounding, through eight steps of a controller.
    assert float(tree_norm(jax.tree.map(jnp.subtract, *gradients))) < 1e-3 * size


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 3])
def test_gradients_that_are_not_rematerialised_are_finite_however_much_is_optimised(world, level):
    """What the backward pass keeps and what it computes again are then rounded differently, by level."""
    params, scene, key = world
    rollout = make_rollout(SYSTEM, make_unfiltered_controller(SYSTEM), 2)

    def total(policy):
        return jnp.sum(rollout(params.replace(policy=policy), scene, NOISE, key).last.position)

    compiled = jax.jit(jax.grad(total), compiler_options={"xla_backend_optimization_level": level})
    assert bool(tree_all_finite(compiled(params.policy)))


EXPECTED_RADIUS = SensorConfig().surface_radius


@pytest.mark.parametrize(
    ("surfaces", "radius", "heights"), [("raw", 0.3, (0.0, 0.2)), ("tracked", EXPECTED_RADIUS, (0.5, -0.4))]
)
def test_the_gradient_of_a_flight_is_that_of_central_differences(surfaces, radius, heights):
    """With gradient shaping off; along goal and start, in float32, so with a step far above rounding.

    Fitted surfaces are constants to differentiation. Nothing is missing where the fit is right from the first reading:
    of the expected radius, and away from the drone's height, where a ball cannot be told from an upright cylinder.
    """
    physics = PhysicsConfig(delay=0.05, gradient_decay=0.0, gradient_limit=1e6)
    system = small_system(physics=physics, sensor=SensorConfig(surfaces=surfaces))
    params = controller_params(system, jax.tree.map(lambda x: 0.3 * x, random_policy(system)))
    rollout = make_rollout(system, make_unfiltered_controller(system), 10)
    base = scene_of(capsules([[1.0, 0.6, heights[0]], [2.0, -1.0, heights[1]]], radius))

    def end(goal, start):
        flight = rollout(params, base.replace(goal=goal, start=start), jnp.float32(0.0), jax.random.key(0))
        return flight.last.position

    goal, start = jnp.array([3.0, 0.5, 0.2]), jnp.zeros(3)
    by_goal, by_start = jax.jit(jax.jacrev(end, argnums=(0, 1)))(goal, start)
    run, width = jax.jit(end), 0.01
    for axis, e in enumerate(width * np.eye(3, dtype=np.float32)):
        # Truncation of the order of width^2, rounding 3e-7 / width, on slopes of the order of 0.1 and 1.
        goal_slope = (run(goal + e, start) - run(goal - e, start)) / (2 * width)
        start_slope = (run(goal, start + e) - run(goal, start - e)) / (2 * width)
        np.testing.assert_allclose(by_goal[:, axis], goal_slope, atol=2e-4)
        np.testing.assert_allclose(by_start[:, axis], start_slope, atol=2e-3)


def first_steps(flight, count):
    """The flight as if it had ended after ``count`` steps."""
    if count == len(flight.wind):
        return flight
    begun = jax.tree.map(lambda x: x[:count], flight.replace(last=None))
    return begun.replace(last=one(flight.states, count))


def long_gradients(horizons, seeds):
    """Gradients of the losses after each horizon with respect to both networks, through the filter, for each seed.

    One flight serves all horizons: compiling its backward pass takes far longer than flying it.
    """
    rollout = make_rollout(SYSTEM, make_filtered_controller(SYSTEM), max(horizons), rematerialise=True)
    loss = make_flight_loss(SYSTEM, filtered=True)
    policies = [initial_policy_params(SYSTEM, jax.random.key(seed)) for seed in range(seeds)]
    policies = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    base = controller_params()

    def losses(networks, scene, key):
        params = base.replace(policy=networks["policy"], barrier=networks["barrier"])
        flight = rollout(params, scene, jnp.float32(0.05), key)
        totals = [sum(loss(first_steps(flight, horizon), scene).values()) for horizon in horizons]
        return jnp.stack(totals), flight.decisions.status

    networks = {"policy": policies, "barrier": jax.tree.map(lambda x: jnp.stack([x] * seeds), base.barrier)}
    keys = jax.random.split(jax.random.key(1), seeds)
    return jax.jit(jax.vmap(jax.jacrev(losses, has_aux=True)))(networks, scenes(seeds), keys)


def check_long(horizons, seeds):
    gradients, status = long_gradients(horizons, seeds)
    acted = np.isin(np.asarray(status), [Status.INTERVENED, Status.RELAXED])
    assert acted[:, : min(horizons)].mean() > 0.01, "the filter must act, or its gradient is not on the way"
    assert np.all(np.asarray(jax.vmap(jax.vmap(tree_all_finite))(gradients)))
    sizes = np.asarray(jax.vmap(jax.vmap(tree_norm))(gradients["policy"]))
    assert sizes.shape == (seeds, len(horizons)) and np.all(sizes > 0.0)


def test_gradients_through_the_filter_are_finite_over_180_and_400_steps():
    check_long((180, 400), 4)


@pytest.mark.slow
def test_gradients_through_the_filter_are_finite_for_fifty_seeds():
    check_long((180, 400), 50)
