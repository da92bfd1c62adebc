"""The estimate over time: the correction's formula, how much noise it removes, and that it finds the wind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov

from drone_cbf.config import PhysicsConfig, SensorConfig
from drone_cbf.perception.estimation import first_estimate, make_correction, params_with_bias, position_spread, predict
from drone_cbf.perception.sensors import OwnMotion, draw_noise, observe_motion
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.dynamics import make_dynamics

PERIOD = 0.05
LEVEL = 0.05
STEPS, FLIGHTS = 150, 3000
STATISTICS = 5.0 * np.sqrt(2.0 / (3 * FLIGHTS))
"""Five standard errors of a variance, relative, over flights and axes."""
STILL = PhysicsConfig(time_step=PERIOD, linear_drag=0.0, quadratic_drag=0.0)
WINDY = PhysicsConfig(time_step=PERIOD, linear_drag=0.4, quadratic_drag=0.0)


def flown(physics, sensor, wind, level, steps, flights=1):
    """True states and corrected estimates of hovering drones, (flights, steps, ...)."""
    return hovered(physics, sensor, tuple(map(float, wind)), float(level), steps, flights)


@functools.cache
def hovered(physics, sensor, wind, noise, steps, flights):
    level = jnp.float32(noise)
    dynamics, model = make_dynamics(physics), nominal_params(physics)
    actual = model.replace(wind=jnp.asarray(wind, jnp.float32))
    correct = make_correction(sensor, physics.time_step)
    commands = jnp.zeros((steps, 3))

    def fly(key):
        state = initial_state(jnp.array([1.0, -2.0, 3.0]), jnp.zeros(3), physics)

        def one(carry, now):
            state, predicted = carry
            command, key = now
            estimate = correct(predicted, observe_motion(state, draw_noise(level, 0, key)), level)
            following = predict(estimate, command, model, PERIOD, sensor.bias_drift)
            return (dynamics.step(state, command, actual), following), (state, estimate)

        keys = jax.random.split(key, steps)
        # As in a rollout: belief starts from the reading that the first correction weighs.
        start = (state, first_estimate(observe_motion(state, draw_noise(level, 0, keys[0])), state, level, sensor))
        return jax.lax.scan(one, start, (commands, keys))[1]

    return jax.jit(jax.vmap(fly))(jax.random.split(jax.random.key(0), flights))


def stationary_covariance(gain: float, bias_gain: float) -> np.ndarray:
    """Of the errors in (p, v, bias) after a correction, from the linear error dynamics: e' = (I - K H) A e + K n."""
    move = np.array([[1.0, PERIOD, PERIOD**2 / 2.0], [0.0, 1.0, PERIOD], [0.0, 0.0, 1.0]])
    correction = np.array([[gain, 0.0], [0.0, gain], [0.0, bias_gain / PERIOD]])
    remaining = (np.eye(3) - correction @ np.eye(2, 3)) @ move
    if bias_gain == 0.0:
        remaining, correction = remaining[:2, :2], correction[:2]
    return solve_discrete_lyapunov(remaining, LEVEL**2 * correction @ correction.T)


def test_the_correction_moves_by_its_gain_towards_the_observation():
    config = SensorConfig(estimator="predictor_corrector", gain=0.25, bias_gain=0.1)
    state = initial_state(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, -0.5]), STILL)
    seen = OwnMotion(position=state.position, velocity=state.velocity)
    start = first_estimate(seen, state, jnp.float32(LEVEL), config)
    start = start.replace(bias=jnp.array([0.1, 0.2, 0.3]))
    observed = OwnMotion(position=jnp.array([2.0, 2.0, 1.0]), velocity=jnp.array([0.7, 0.4, -0.5]))
    after = make_correction(config, PERIOD)(start, observed, jnp.float32(LEVEL))
    np.testing.assert_allclose(after.drone.position, [1.25, 2.0, 2.5], rtol=1e-6)
    np.testing.assert_allclose(after.drone.velocity, [0.55, 0.1, -0.5], rtol=1e-6)
    np.testing.assert_allclose(after.bias, [0.1 + 0.1 * 0.2 / PERIOD, 0.2 + 0.1 * 0.4 / PERIOD, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(params_with_bias(after, nominal_params(STILL)).bias, after.bias)


def test_the_raw_estimator_believes_what_it_sees_and_knows_no_bias():
    sensor = SensorConfig(estimator="raw", gain=0.2, bias_gain=0.3)
    states, estimates = flown(WINDY, sensor, (2.0, 0.0, 0.0), jnp.float32(0.0), 20)
    np.testing.assert_allclose(estimates.drone.position, states.position, atol=1e-6)
    np.testing.assert_allclose(estimates.drone.velocity, states.velocity, atol=1e-6)
    assert np.all(np.asarray(estimates.bias) == 0.0)


def test_a_perfect_model_and_sensor_give_a_perfect_estimate():
    states, estimates = flown(WINDY, SensorConfig(), (0.0, 0.0, 0.0), jnp.float32(0.0), 60)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), estimates.drone, states)
    np.testing.assert_allclose(estimates.bias, 0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("gain", "bias_gain"),
    [
        pytest.param(0.3, 0.0, marks=pytest.mark.slow),
        (0.3, 0.05),
        pytest.param(0.6, 0.02, marks=pytest.mark.slow),
        (1.0, 0.0),
    ],
)
def test_the_noise_left_is_that_of_the_linear_error_dynamics(gain, bias_gain):
    sensor = SensorConfig(estimator="predictor_corrector", gain=gain, bias_gain=bias_gain)
    states, estimates = flown(STILL, sensor, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS, FLIGHTS)
    position = np.asarray(estimates.drone.position - states.position, np.float64)[:, -1]
    velocity = np.asarray(estimates.drone.velocity - states.velocity, np.float64)[:, -1]
    expected = stationary_covariance(gain, bias_gain)
    assert position.var() == pytest.approx(expected[0, 0], rel=STATISTICS)
    assert velocity.var() == pytest.approx(expected[1, 1], rel=STATISTICS)
    if bias_gain == 0.0:  # the alpha filter of the docstring, exact for the velocity
        assert expected[1, 1] == pytest.approx(gain / (2.0 - gain) * LEVEL**2, rel=1e-9)
    if gain < 1.0:
        assert position.var() < 0.7 * LEVEL**2


def test_the_bias_becomes_the_acceleration_by_a_constant_wind():
    """With linear drag alone the wind is a constant acceleration beside the model: drag times wind."""
    wind = np.array([2.0, -1.0, 0.3])
    config = SensorConfig(estimator="predictor_corrector", gain=0.3, bias_gain=0.05)
    _, estimates = flown(WINDY, config, wind, jnp.float32(0.0), 300)
    bias = np.asarray(estimates.bias, np.float64)[0]
    assert np.abs(bias[0]).max() < 0.05 * 2.0
    # 1e-4: rounding of a velocity of 1 m/s (1e-7) over the period, times the bias gain, over a memory of 20 steps.
    np.testing.assert_allclose(bias[-1], WINDY.linear_drag * wind, atol=1e-4)


def test_in_wind_the_estimate_of_the_motion_has_no_offset_left():
    config = SensorConfig(estimator="predictor_corrector", gain=0.3, bias_gain=0.05)
    states, estimates = flown(WINDY, config, (2.0, -1.0, 0.3), jnp.float32(0.0), 300)
    np.testing.assert_allclose(estimates.drone.velocity[0, -1], states.velocity[0, -1], atol=1e-4)
    np.testing.assert_allclose(estimates.drone.position[0, -1], states.position[0, -1], atol=1e-4)


def test_the_commands_sent_are_known_exactly():
    physics = PhysicsConfig(time_step=PERIOD, delay=0.075)
    state = initial_state(jnp.zeros(3), jnp.zeros(3), physics)
    seen = OwnMotion(position=jnp.ones(3), velocity=jnp.ones(3))
    estimate = first_estimate(seen, state, jnp.float32(LEVEL), SensorConfig())
    np.testing.assert_array_equal(estimate.drone.position, jnp.ones(3))
    command = jnp.array([1.0, 2.0, 3.0])
    after = predict(estimate, command, nominal_params(physics), PERIOD, 0.1)
    np.testing.assert_array_equal(after.drone.queue, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])


KALMAN = SensorConfig(estimator="kalman", bias_spread=0.2, bias_drift=0.05)


def test_the_kalman_filters_covariance_settles_at_the_solution_of_the_riccati_equation():
    _, estimates = flown(STILL, KALMAN, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS)
    move = np.array([[1.0, PERIOD, PERIOD**2 / 2.0], [0.0, 1.0, PERIOD], [0.0, 0.0, 1.0]])
    drift, noise = np.diag([0.0, 0.0, KALMAN.bias_drift**2 * PERIOD]), LEVEL**2 * np.eye(2)
    predicted = solve_discrete_are(move.T, np.eye(3)[:, :2], drift, noise)
    gain = predicted[:, :2] @ np.linalg.inv(predicted[:2, :2] + noise)
    expected = predicted - gain @ predicted[:2]
    np.testing.assert_allclose(estimates.covariance[0, -1], expected, rtol=1e-3, atol=1e-6)


def test_the_errors_of_the_kalman_filter_are_as_large_as_it_believes():
    """In still air, which it cannot know: the wind it allows for costs it noise, and never makes it overconfident."""
    states, estimates = flown(STILL, KALMAN, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS, FLIGHTS)
    never = SensorConfig(estimator="kalman", bias_spread=0.0, bias_drift=0.0)
    _, certain = flown(STILL, never, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS, FLIGHTS)
    for name, axis in (("position", 0), ("velocity", 1)):
        for step_index in (3, STEPS - 1):
            truth = np.asarray(getattr(states, name), np.float64)[:, step_index]
            error = (np.asarray(getattr(estimates.drone, name), np.float64)[:, step_index] - truth).var()
            assert error <= float(estimates.covariance[0, step_index, axis, axis]) * (1.0 + STATISTICS)
            still = (np.asarray(getattr(certain.drone, name), np.float64)[:, step_index] - truth).var()
            assert still == pytest.approx(float(certain.covariance[0, step_index, axis, axis]), rel=STATISTICS)
            assert still <= error * (1.0 + STATISTICS) and error < 0.5 * LEVEL**2


def test_the_kalman_filter_leaves_less_noise_than_the_constant_gain():
    """In the position, at the end of a flight in still air; both as shipped, the constant gain of the alternative."""
    states, estimates = flown(STILL, KALMAN, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS, FLIGHTS)
    constant = SensorConfig(estimator="predictor_corrector")
    _, others = flown(STILL, constant, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS, FLIGHTS)
    ours, theirs = (
        np.asarray(e.drone.position - states.position, np.float64)[:, -1].std() for e in (estimates, others)
    )
    assert ours < 0.8 * theirs


def test_the_kalman_filter_finds_the_wind_within_two_seconds():
    wind = np.array([2.0, -1.0, 0.3])
    sensor = SensorConfig(estimator="kalman")
    _, estimates = flown(WINDY, sensor, wind, jnp.float32(0.02), 60, 200)
    bias = np.asarray(estimates.bias, np.float64)[:, 40:].mean((0, 1))
    np.testing.assert_allclose(bias, WINDY.linear_drag * wind, atol=0.03)


def test_a_kalman_update_is_linear_in_the_observation_and_one_drone_of_a_batch_is_one_alone():
    _, estimates = flown(STILL, KALMAN, (0.0, 0.0, 0.0), jnp.float32(LEVEL), 3, 4)
    last = jax.tree.map(lambda leaf: leaf[:, -1], estimates)
    rng = np.random.default_rng(0)
    seen = OwnMotion(*(jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(2)))
    correct, level = make_correction(KALMAN, PERIOD), jnp.float32(LEVEL)
    together = jax.jit(jax.vmap(correct, in_axes=(0, 0, None)))(last, seen, level)
    for index in range(4):
        one, observation = (jax.tree.map(lambda leaf, i=index: leaf[i], tree) for tree in (last, seen))
        alone = correct(one, observation, level)
        jax.tree.map(lambda x, y, i=index: np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-5), together, alone)
        slope = jax.jacobian(lambda p, e=one, o=observation: correct(e, o.replace(position=p), level).drone.velocity)
        gain = (
            correct(one, observation.replace(position=observation.position + 1.0), level).drone.velocity
            - correct(one, observation.replace(position=observation.position - 1.0), level).drone.velocity
        ) / 2.0
        np.testing.assert_allclose(jnp.diag(slope(observation.position)), gain, rtol=1e-3, atol=1e-5)


def test_the_first_reading_counts_once():
    _, estimates = flown(STILL, KALMAN, (0.0, 0.0, 0.0), jnp.float32(LEVEL), 1)
    np.testing.assert_allclose(jnp.diag(estimates.covariance[0, 0])[:2], LEVEL**2, rtol=0.02)


@pytest.mark.parametrize(("estimator", "gain", "bias_gain"), [("raw", 1.0, 0.0), ("predictor_corrector", 0.3, 0.05)])
def test_an_estimator_with_a_constant_gain_knows_its_own_errors_and_they_do_not_grow(estimator, gain, bias_gain):
    """They widen the filter's row: a covariance that only ever grew would ground every drone."""
    sensor = SensorConfig(estimator=estimator, gain=gain, bias_gain=bias_gain, bias_spread=0.0, bias_drift=0.0)
    _, estimates = flown(STILL, sensor, (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS)
    expected = stationary_covariance(gain, bias_gain)
    size = expected.shape[0]
    np.testing.assert_allclose(estimates.covariance[0, -1, :size, :size], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("estimator", ["raw", "predictor_corrector", "kalman"])
def test_the_position_is_known_better_than_the_sensor_or_as_well_at_the_end_of_a_flight(estimator):
    _, estimates = flown(STILL, SensorConfig(estimator=estimator), (0.0, 0.0, 0.0), jnp.float32(LEVEL), STEPS)
    last = jax.tree.map(lambda leaf: leaf[0, -1], estimates)
    assert 0.0 < position_spread(last, jnp.float32(0.0)) <= LEVEL * (1.0 + 1e-3)
    assert position_spread(last, jnp.float32(0.13)) < 1.1 * LEVEL
