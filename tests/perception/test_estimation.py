"""The estimate over time: the correction's formula, how much noise it removes, and that it finds the wind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from drone_cbf.config import PhysicsConfig, SensorConfig
from drone_cbf.perception.estimation import first_estimate, make_correction, model_of, predict
from drone_cbf.perception.sensors import OwnMotion, draw_noise, observe_motion
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.point_mass import step

PERIOD = 0.05
LEVEL = 0.05
STEPS, FLIGHTS = 150, 3000
STATISTICS = 5.0 * np.sqrt(2.0 / (3 * FLIGHTS))
"""Five standard errors of a variance, relative, over flights and axes."""
STILL = PhysicsConfig(time_step=PERIOD, linear_drag=0.0, quadratic_drag=0.0)
WINDY = PhysicsConfig(time_step=PERIOD, linear_drag=0.4, quadratic_drag=0.0)


def flown(physics, sensor, wind, level, steps, flights=1):
    """True states and corrected estimates of hovering drones, (flights, steps, ...)."""
    model = nominal_params(physics)
    actual = model.replace(wind=jnp.asarray(wind, jnp.float32))
    correct = make_correction(sensor, physics.time_step)
    commands = jnp.zeros((steps, 3))

    def fly(key):
        state = initial_state(jnp.array([1.0, -2.0, 3.0]), jnp.zeros(3), physics)

        def one(carry, now):
            state, predicted = carry
            command, key = now
            estimate = correct(predicted, observe_motion(state, draw_noise(level, 0, key)))
            following = (step(state, command, actual, PERIOD), predict(estimate, command, model, PERIOD))
            return following, (state, estimate)

        start = (state, first_estimate(observe_motion(state, draw_noise(level, 0, key)), state))
        return jax.lax.scan(one, start, (commands, jax.random.split(key, steps)))[1]

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
    start = first_estimate(OwnMotion(position=state.position, velocity=state.velocity), state)
    start = start.replace(bias=jnp.array([0.1, 0.2, 0.3]))
    observed = OwnMotion(position=jnp.array([2.0, 2.0, 1.0]), velocity=jnp.array([0.7, 0.4, -0.5]))
    after = make_correction(config, PERIOD)(start, observed)
    np.testing.assert_allclose(after.drone.position, [1.25, 2.0, 2.5], rtol=1e-6)
    np.testing.assert_allclose(after.drone.velocity, [0.55, 0.1, -0.5], rtol=1e-6)
    np.testing.assert_allclose(after.bias, [0.1 + 0.1 * 0.2 / PERIOD, 0.2 + 0.1 * 0.4 / PERIOD, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(model_of(after, nominal_params(STILL)).bias, after.bias)


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


@pytest.mark.parametrize(("gain", "bias_gain"), [(0.3, 0.0), (0.3, 0.05), (0.6, 0.02), (1.0, 0.0)])
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
    _, estimates = flown(WINDY, SensorConfig(gain=0.3, bias_gain=0.05), wind, jnp.float32(0.0), 300)
    bias = np.asarray(estimates.bias, np.float64)[0]
    assert np.abs(bias[0]).max() < 0.05 * 2.0
    # 1e-4: rounding of a velocity of 1 m/s (1e-7) over the period, times the bias gain, over a memory of 20 steps.
    np.testing.assert_allclose(bias[-1], WINDY.linear_drag * wind, atol=1e-4)


def test_in_wind_the_estimate_of_the_motion_has_no_offset_left():
    states, estimates = flown(WINDY, SensorConfig(gain=0.3, bias_gain=0.05), (2.0, -1.0, 0.3), jnp.float32(0.0), 300)
    np.testing.assert_allclose(estimates.drone.velocity[0, -1], states.velocity[0, -1], atol=1e-4)
    np.testing.assert_allclose(estimates.drone.position[0, -1], states.position[0, -1], atol=1e-4)


def test_the_commands_sent_are_known_exactly():
    physics = PhysicsConfig(time_step=PERIOD, delay=0.075)
    state = initial_state(jnp.zeros(3), jnp.zeros(3), physics)
    estimate = first_estimate(OwnMotion(position=jnp.ones(3), velocity=jnp.ones(3)), state)
    np.testing.assert_array_equal(estimate.drone.position, jnp.ones(3))
    command = jnp.array([1.0, 2.0, 3.0])
    after = predict(estimate, command, nominal_params(physics), PERIOD)
    np.testing.assert_array_equal(after.drone.queue, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
