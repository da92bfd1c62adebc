"""The point mass against scipy's integrator, against closed forms, and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneState, initial_state, nominal_params, queue_length
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.point_mass import committed_motion, lag_free_equivalent, limit_command, step
from tests.physics import reference

STEPS = 30
ROUNDING = STEPS * 4 * float(np.finfo(np.float32).eps)
"""A few roundings per step, relative to the largest number around: positions reach about 10 m."""
TOLERANCE = 10.0 * ROUNDING
DELAYS = (0.0, 0.03, 0.05, 0.075)
VACUUM = {"linear_drag": 0.0, "quadratic_drag": 0.0}


@functools.partial(jax.jit, static_argnames=("period", "decay"))
def flown(state, commands, params, period, decay=0.0):
    """States after each command, leading axis."""

    def one(state, command):
        state = step(state, command, params, period, decay)
        return state, state

    return jax.lax.scan(one, state, commands)[1]


@jax.jit
def committed(state, params):
    return committed_motion(state, params, 0.05)


equivalent = jax.jit(lag_free_equivalent)


def stack(states) -> np.ndarray:
    return np.concatenate([states.position, states.velocity, states.thrust], axis=-1)


def random_commands(count=STEPS, size=6.0, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-size, size, (count, 3)).astype(np.float32)


def moving_start(config) -> DroneState:
    state = initial_state(jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 2.0, -0.5]), config)
    return state.replace(thrust=jnp.array([2.0, -3.0, 1.0]))


@pytest.mark.parametrize("lag", [0.02, 0.08, 0.4])
@pytest.mark.parametrize("delay", DELAYS)
def test_lag_and_delay_are_integrated_exactly(delay, lag):
    config = PhysicsConfig(time_step=0.05, delay=delay, lag_time=lag, **VACUUM)
    start, commands = moving_start(config), random_commands()
    ours = stack(flown(start, jnp.asarray(commands), nominal_params(config), 0.05))
    times = 0.05 * np.arange(1, STEPS + 1)
    truth = reference.fly(stack(start), commands, 0.05, delay, times, reference.Air(lag=lag))
    np.testing.assert_allclose(ours, truth, atol=TOLERANCE)


def test_a_constant_command_follows_the_textbook_lag():
    lag, command, time = 0.08, np.array([3.0, -2.0, 1.0]), 0.05 * np.arange(1, STEPS + 1)[:, None]
    config = PhysicsConfig(time_step=0.05, delay=0.0, lag_time=lag, **VACUUM)
    start = initial_state(jnp.zeros(3), jnp.zeros(3), config)
    ours = stack(flown(start, jnp.tile(jnp.asarray(command, jnp.float32), (STEPS, 1)), nominal_params(config), 0.05))
    rest = np.exp(-time / lag)
    speed = time - lag * (1.0 - rest)
    place = 0.5 * time**2 - lag * time + lag**2 * (1.0 - rest)
    np.testing.assert_allclose(ours, np.hstack([command * x for x in (place, speed, 1.0 - rest)]), atol=TOLERANCE)


@pytest.mark.parametrize("delay", DELAYS)
def test_the_transport_delay_shifts_a_step_command_by_exactly_itself(delay):
    config = PhysicsConfig(time_step=0.05, delay=delay, lag_time=0.0, **VACUUM)
    start = initial_state(jnp.zeros(3), jnp.zeros(3), config)
    command = np.array([2.0, -1.0, 3.0], np.float32)
    states = flown(start, jnp.tile(jnp.asarray(command), (STEPS, 1)), nominal_params(config), 0.05)
    since = np.maximum(0.05 * np.arange(1, STEPS + 1)[:, None] - delay, 0.0)
    # "No lag" is a lag of 1e-4 s: the velocity trails by command * 1e-4, the position by that times the flight.
    trailing = 1e-4 * np.abs(command) * since
    assert np.all(np.abs(states.velocity - command * since) <= 1e-4 * np.abs(command) + TOLERANCE)
    assert np.all(np.abs(states.position - command * since**2 / 2.0) <= trailing + TOLERANCE)


@pytest.mark.parametrize(("delay", "length"), [(0.0, 1), (0.03, 1), (0.05, 2), (0.075, 2), (0.1, 3), (0.15, 4)])
def test_the_queue_remembers_as_many_commands_as_the_delay_needs(delay, length):
    config = PhysicsConfig(time_step=0.05, delay=delay)
    assert queue_length(config.delay, config.time_step) == length
    assert initial_state(jnp.zeros(3), jnp.zeros(3), config).queue.shape == (length, 3)


def error_with_drag(period: float, wind=(1.5, -1.0, 0.3)) -> float:
    config = PhysicsConfig(time_step=period, delay=0.05, lag_time=0.1, linear_drag=0.4, quadratic_drag=0.1)
    params = nominal_params(config).replace(wind=jnp.asarray(wind, jnp.float32))
    repeat = round(0.05 / period)
    commands = random_commands(20)
    start = moving_start(config)
    ours = stack(flown(start, jnp.asarray(np.repeat(commands, repeat, axis=0)), params, period))[-1]
    air = reference.Air(lag=0.1, linear=0.4, quadratic=0.1, wind=wind)
    truth = reference.fly(stack(start), commands, 0.05, 0.05, np.array([1.0]), air)[-1]
    return float(np.abs(ours - truth).max())


def test_drag_in_wind_is_integrated_to_first_order():
    coarse, middle, fine = (error_with_drag(period) for period in (0.05, 0.025, 0.0125))
    # First order: halving the period halves the error, up to the next order of the series (period * drag, 5 %).
    assert coarse < 0.2
    assert coarse / middle == pytest.approx(2.0, rel=0.05)
    assert middle / fine == pytest.approx(2.0, rel=0.05)


def test_a_bias_is_a_constant_acceleration():
    config = PhysicsConfig(time_step=0.05, delay=0.0, **VACUUM)
    params = nominal_params(config).replace(bias=jnp.array([0.5, -0.2, 1.0]))
    states = flown(initial_state(jnp.zeros(3), jnp.zeros(3), config), jnp.zeros((STEPS, 3)), params, 0.05)
    time = 0.05 * np.arange(1, STEPS + 1)[:, None]
    np.testing.assert_allclose(states.velocity, np.array([0.5, -0.2, 1.0]) * time, atol=TOLERANCE)
    np.testing.assert_allclose(states.position, np.array([0.5, -0.2, 1.0]) * time**2 / 2.0, atol=TOLERANCE)


@pytest.mark.parametrize("lag", [0.0, 0.08])
def test_the_lag_free_equivalent_is_a_double_integrator(lag):
    """q' = z and z' = u exactly, so over a period q gains z dt + u dt^2 / 2 and z gains u dt."""
    config = PhysicsConfig(time_step=0.05, delay=0.0, lag_time=lag, **VACUUM)
    params, commands = nominal_params(config), random_commands()
    states = flown(moving_start(config), jnp.asarray(commands), params, 0.05)
    seen = equivalent(Motion(position=states.position, velocity=states.velocity, thrust=states.thrust), params)
    q, z = np.asarray(seen.position, np.float64), np.asarray(seen.velocity, np.float64)
    later = commands[1:].astype(np.float64)
    # A lag of none is simulated as 1e-4 s and replaced by 0 s here: z misses that much of the jump of the thrust.
    slip = 1e-4 * 12.0 if lag == 0.0 else 0.0
    np.testing.assert_allclose(np.diff(z, axis=0), 0.05 * later, atol=TOLERANCE + 2 * slip)
    np.testing.assert_allclose(np.diff(q, axis=0), 0.05 * z[:-1] + 0.05**2 / 2 * later, atol=TOLERANCE + slip)
    assert np.all(np.asarray(seen.thrust) == 0.0)


@pytest.mark.parametrize("delay", DELAYS)
def test_the_committed_motion_is_what_the_queue_still_does(delay):
    config = PhysicsConfig(time_step=0.05, delay=delay, **VACUUM)
    params, commands = nominal_params(config), random_commands(8, seed=3)
    states = flown(moving_start(config), jnp.asarray(commands), params, 0.05)
    now = jax.tree.map(lambda x: x[-1], states)
    times = np.array([0.4, 0.4 + max(delay, 1e-6)])
    truth = reference.fly(stack(moving_start(config)), commands, 0.05, delay, times, reference.Air(lag=config.lag_time))
    # The reference starts from float32 numbers too, but 8 steps earlier: its rounding is that of the flight.
    np.testing.assert_allclose(stack(committed(now, params)), truth[-1], atol=TOLERANCE)


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_the_committed_motion_equals_stepping_the_queue_out(whole):
    config = PhysicsConfig(time_step=0.05, delay=0.05 * whole)
    params = nominal_params(config)
    queue = jnp.asarray(random_commands(queue_length(config.delay, config.time_step), seed=5))
    state = moving_start(config).replace(queue=queue)
    stepped = stack(state)
    if whole:  # what is sent meanwhile acts later
        stepped = stack(flown(state, jnp.asarray(random_commands(whole, seed=6)), params, 0.05))[-1]
    np.testing.assert_allclose(stack(committed(state, params)), stepped, atol=TOLERANCE)


def jacobians(decay):
    config = PhysicsConfig(time_step=0.05, delay=0.03, linear_drag=0.5, quadratic_drag=0.1)
    params = nominal_params(config)

    def move(position, velocity, thrust, queue, command):
        state = DroneState(position=position, velocity=velocity, thrust=thrust, queue=queue)
        after = step(state, command, params, 0.05, decay)
        return {"position": after.position, "velocity": after.velocity, "thrust": after.thrust}

    state = moving_start(config)
    inputs = (state.position, state.velocity, state.thrust, state.queue + 1.0, jnp.array([1.0, 2.0, 3.0]))
    values, slopes = jax.jit(lambda *x: (move(*x), jax.jacrev(move, argnums=(0, 1, 2, 3, 4))(*x)))(*inputs)
    names = ("position", "velocity", "thrust", "queue", "command")
    flat = {(out, name): np.asarray(x) for out, row in slopes.items() for name, x in zip(names, row, strict=True)}
    return jax.tree.map(np.asarray, values), flat


def test_temporal_gradient_decay_shrinks_two_jacobians_and_nothing_else():
    (values, plain), (decayed_values, decayed) = jacobians(0.0), jacobians(2.0)
    for name, value in values.items():
        np.testing.assert_array_equal(decayed_values[name], value)
    factor = {("position", "position"): np.exp(-2.0 * 0.05), ("velocity", "velocity"): np.exp(-2.0 * 0.05)}
    assert np.abs(plain["position", "velocity"]).max() > 0.01 and np.abs(plain["velocity", "command"]).max() > 0.001
    for key, jacobian in plain.items():
        np.testing.assert_allclose(decayed[key], factor.get(key, 1.0) * jacobian, atol=1e-6, err_msg=str(key))


def test_the_jacobians_are_those_of_the_dynamics():
    """Against central differences of the float64 integrator, drag off: linear, so any step is exact."""
    config = PhysicsConfig(time_step=0.05, delay=0.03, **VACUUM)
    params, start = nominal_params(config), moving_start(config)
    commands = random_commands(3)

    def end(position, velocity, thrust, commands):
        state = start.replace(position=position, velocity=velocity, thrust=thrust)
        for command in commands:
            state = step(state, command, params, 0.05)
        return jnp.concatenate([state.position, state.velocity, state.thrust])

    arrays = (start.position, start.velocity, start.thrust, jnp.asarray(commands))
    ours = [np.asarray(x).reshape(9, -1) for x in jax.jit(jax.jacrev(end, argnums=(0, 1, 2, 3)))(*arrays)]

    def truth(inputs):
        return reference.fly(
            inputs[:9], inputs[9:].reshape(3, 3), 0.05, 0.03, np.array([0.15]), reference.Air(lag=config.lag_time)
        )[-1]

    here = np.concatenate([stack(start), commands.ravel()]).astype(np.float64)
    columns = [(truth(here + e) - truth(here - e)) / 2.0 for e in np.eye(18)]
    np.testing.assert_allclose(np.hstack(ours), np.stack(columns, -1), atol=1e-5)


def test_a_command_saturates_at_the_limits_and_has_no_gradient_beyond():
    params = nominal_params(PhysicsConfig())
    limit = np.asarray(params.max_acceleration)
    command = jnp.asarray(limit) * jnp.array([2.0, -0.5, -3.0])
    np.testing.assert_array_equal(limit_command(command, params), limit * [1.0, -0.5, -1.0])
    jacobian = jax.jacobian(lambda u: limit_command(u, params))(command)
    np.testing.assert_array_equal(jacobian, np.diag([0.0, 1.0, 0.0]))


def test_a_step_sees_only_the_saturated_command():
    config = PhysicsConfig(time_step=0.05, delay=0.0)
    params, start = nominal_params(config), moving_start(config)
    limit = params.max_acceleration
    beyond, at = (stack(flown(start, (x * limit)[None], params, 0.05)) for x in (5.0, 1.0))
    np.testing.assert_array_equal(beyond, at)


def test_many_drones_at_once_fly_as_each_alone():
    config = PhysicsConfig()
    lags = jnp.array([0.02, 0.08, 0.3])
    commands = jnp.asarray(random_commands())
    params = nominal_params(config)
    together = jax.vmap(lambda lag: flown(moving_start(config), commands, params.replace(lag_time=lag), 0.05))(lags)
    for index, lag in enumerate(lags):
        alone = flown(moving_start(config), commands, params.replace(lag_time=lag), 0.05)
        np.testing.assert_allclose(stack(together)[index], stack(alone), atol=TOLERANCE)
