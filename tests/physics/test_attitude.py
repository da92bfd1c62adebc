"""The drone with an attitude against closed forms and scipy's integrator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import attitude
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.quaternions import body_axes, product, rate_of, turned_by, up_axis
from drone_cbf.physics_config import GRAVITY

PHYSICS = PhysicsConfig(model="attitude", delay=0.0, linear_drag=0.0, quadratic_drag=0.0, lag_time=0.06, rate_lag=0.04)
STEPS = 16
ROUNDING = 1e-5


def flown(physics, command):
    """States after each of STEPS periods under one command, from hover."""
    body, rest = attitude.hovering(physics), initial_state(jnp.zeros(3), jnp.zeros(3), physics)
    drone = nominal_params(physics).replace(airframe=attitude.airframe_of(physics))

    def one(state, command):
        return (attitude.step(state, command, drone, physics.time_step, physics.inner_rate),) * 2

    commands = jnp.tile(jnp.asarray(command, jnp.float32), (STEPS, 1))
    return jax.jit(lambda: jax.lax.scan(one, rest.replace(body=body), commands)[1])()


@pytest.mark.parametrize("seed", range(3))
def test_quaternions_are_the_rotations_of_scipy(seed):
    draw = np.random.default_rng(seed)
    one, other, angle = Rotation.random(rng=draw), Rotation.random(rng=draw), draw.normal(size=3)
    ours, theirs = (jnp.asarray(rotation.as_quat(scalar_first=True), jnp.float32) for rotation in (one, other))
    np.testing.assert_allclose(body_axes(ours), one.as_matrix(), atol=ROUNDING)
    np.testing.assert_allclose(up_axis(ours), one.as_matrix()[:, 2], atol=ROUNDING)
    np.testing.assert_allclose(body_axes(product(ours, theirs)), (one * other).as_matrix(), atol=ROUNDING)
    rate, moment = rate_of(ours, jnp.asarray(angle, jnp.float32)), 1e-6
    later = (one * Rotation.from_rotvec(moment * angle)).as_quat(scalar_first=True)
    np.testing.assert_allclose(rate, (later - one.as_quat(scalar_first=True)) / moment, atol=ROUNDING)
    turned = body_axes(turned_by(ours, jnp.asarray(angle, jnp.float32)))
    np.testing.assert_allclose(turned, (one * Rotation.from_rotvec(angle)).as_matrix(), atol=ROUNDING)


def test_a_vertical_command_is_followed_by_the_textbook_lag():
    states, time = flown(PHYSICS, (0.0, 0.0, 3.0)), 0.05 * np.arange(1, STEPS + 1)
    rest = np.exp(-time / 0.06)
    np.testing.assert_allclose(states.thrust[:, 2], 3.0 * (1.0 - rest), atol=1e-4)
    # The thrust is taken to be linear within an inner step of 5 ms: the velocity errs by 3 (h / T)^2 T / 12 at most.
    np.testing.assert_allclose(states.velocity[:, 2], 3.0 * (time - 0.06 * (1.0 - rest)), atol=2e-4)
    np.testing.assert_allclose(states.thrust[:, :2], 0.0, atol=1e-6)


def test_a_drone_that_is_to_fall_falls_no_faster_than_its_floor_lets_it():
    states = flown(PHYSICS, (0.0, 0.0, -8.0))
    lowest = (PHYSICS.min_thrust - 1.0) * GRAVITY
    assert np.all(states.thrust[:, 2] >= lowest - 1e-4), "rotors cannot push down"
    np.testing.assert_allclose(states.thrust[-1, 2], -8.0, atol=1e-3)


def test_a_level_command_turns_the_drone_first():
    """Against scipy in continuous time, which a fast inner loop comes near."""
    physics = PHYSICS.model_copy(update={"inner_rate": 2000.0})
    states, command = flown(physics, (4.0, 0.0, 0.0)), np.array([4.0, 0.0, GRAVITY])
    aim = np.arctan2(4.0, GRAVITY)

    def change(_, y):
        tilt, rate, push, speed, _place = y
        left = 2.0 * np.sin(0.5 * (aim - tilt))
        wanted = command @ [np.sin(tilt), 0.0, np.cos(tilt)]
        asked = np.clip(left * attitude.ANGLE_GAIN / 0.04, -10.0, 10.0)
        return [rate, (asked - rate) / 0.04, (wanted - push) / 0.06, push * np.sin(tilt), speed]

    times = 0.05 * np.arange(1, STEPS + 1)
    truth = solve_ivp(change, (0.0, times[-1]), [0.0, 0.0, GRAVITY, 0.0, 0.0], t_eval=times, rtol=1e-9, atol=1e-9).y
    # A hold of 0.5 ms in a loop with time constants of 40 ms and more.
    w, _, y, _ = states.body.attitude.T
    np.testing.assert_allclose(np.arcsin(2.0 * w * y), truth[0], atol=6e-3)
    np.testing.assert_allclose(states.velocity[:, 0], truth[3], atol=6e-3)
    np.testing.assert_allclose(states.position[:, 0], truth[4], atol=4e-3)
    assert float(states.thrust[0, 0]) < 1.5, "after one period it has hardly turned"


def test_the_attitude_keeps_its_length_and_its_heading():
    states = flown(PHYSICS, (5.0, -3.0, 2.0))
    np.testing.assert_allclose(np.linalg.norm(states.body.attitude, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(states.body.attitude[:, 3], 0.0, atol=0.02)


def test_rates_stay_within_their_limit():
    fast = flown(PHYSICS.model_copy(update={"body_rate": 1.5}), (10.0, 0.0, 0.0))
    sizes = np.linalg.norm(fast.body.rates, axis=-1)
    assert sizes.max() <= 1.5 + 1e-5 and sizes.max() > 1.4
