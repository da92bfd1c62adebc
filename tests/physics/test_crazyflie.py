"""GCBF+'s CrazyFlie against its equations in float64, by motor thrusts as they are published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_are
from scipy.spatial.transform import Rotation

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import crazyflie
from drone_cbf.physics.dynamics import make_dynamics

THEIRS = PhysicsConfig(model="crazyflie", time_step=0.03, delay=0.0, max_acceleration=(10.0, 10.0, 10.0))
MASS, INERTIA = 0.0299, np.array([1.395e-5, 1.395e-5, 2.173e-5])
DRAG_PER_THRUST, ARM = 7.9379e-12 / 3.1582e-10, 0.03973
# Vertical acceleration and angular ones p, q, r by the thrusts of the four motors.
MOTORS = np.stack(
    [
        np.full(4, 1.0 / MASS),
        np.sqrt(2.0) * ARM / INERTIA[0] * np.array([-1.0, -1.0, 1.0, 1.0]),
        np.sqrt(2.0) * ARM / INERTIA[1] * np.array([-1.0, 1.0, 1.0, -1.0]),
        DRAG_PER_THRUST / INERTIA[2] * np.array([-1.0, 1.0, -1.0, 1.0]),
    ]
)
HOVER = np.full(4, MASS * 9.81 / 4.0)
STEPS = 60


def turn(angles):
    """Of yaw, pitch, roll."""
    return Rotation.from_euler("ZYX", angles).as_matrix()


def euler_rates(angles, pqr):
    """Of yaw, pitch, roll."""
    _, theta, phi = angles
    s, c, t = np.sin(phi), np.cos(phi), np.tan(theta)
    mat = np.array([[0.0, s / np.cos(theta), c / np.cos(theta)], [0.0, c, -s], [1.0, s * t, c * t]])
    return mat @ pqr


def inner_rates(x, motors):
    """Of roll, pitch, yaw, p, q, r and velocity in the world: what they linearise."""
    angles, pqr = x[2::-1], x[3:6]
    effort = MOTORS @ motors
    turning = effort[1:] - np.cross(pqr, INERTIA * pqr) / INERTIA
    pulled = turn(angles) @ np.array([0.0, 0.0, effort[0]]) - np.array([0.0, 0.0, 9.81])
    return np.concatenate([euler_rates(angles, pqr)[::-1], turning, pulled])


def motor_gain():
    """(4, 9): thrusts of the motors by the state of ``inner_rates``; the yaw does not count."""
    step = 1e-6

    def slopes(function, size):
        return np.stack([(function(step * one) - function(-step * one)) / (2.0 * step) for one in np.eye(size)], 1)

    a = slopes(lambda x: inner_rates(x, HOVER), 9)
    b = slopes(lambda u: inner_rates(np.zeros(9), HOVER + u), 4)
    kept = np.delete(np.arange(9), 2)
    a, b = a[np.ix_(kept, kept)], b[kept]
    efforts = MOTORS.T @ np.diag([0.05, 0.01, 0.01, 0.01]) @ MOTORS
    prices = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 20.0])
    return np.insert(np.linalg.solve(efforts, b.T @ solve_continuous_are(a, b, prices, efforts)), 2, 0.0, axis=1)


GAIN = motor_gain()


def slope(x, target):
    """Of x, y, z, yaw, pitch, roll, u, v, w, r, q, p at a target of four velocities."""
    angles, uvw, pqr = x[3:6], x[6:9], x[11:8:-1]
    rotated = turn(angles)
    inner = np.concatenate([angles[::-1], pqr, rotated @ uvw])
    wanted = np.concatenate([np.zeros(5), [target[3]], target[:3]])
    effort = MOTORS @ (HOVER - GAIN @ (inner - wanted))
    pushed = np.array([0.0, 0.0, effort[0]]) - np.cross(pqr, uvw) - 9.81 * rotated[2]
    turning = effort[1:] - np.cross(pqr, INERTIA * pqr) / INERTIA
    return np.concatenate([rotated @ uvw, euler_rates(angles, pqr), pushed, turning[::-1]])


def stepped(x, target, dt=0.03):
    k1 = slope(x, target)
    k2 = slope(x + 0.5 * dt * k1, target)
    k3 = slope(x + 0.5 * dt * k2, target)
    k4 = slope(x + dt * k3, target)
    most = np.array([np.inf] * 4 + [np.pi / 4] * 2 + [0.3] * 3 + [10.0] * 3)
    return np.clip(x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4), -most, most)


def commands_of(seed, size=6.0):
    return np.random.default_rng(seed).uniform(-size, size, (STEPS // 4, 3)).repeat(4, 0)


def flown(commands, physics=THEIRS):
    dynamics = make_dynamics(physics)
    start = dynamics.initial(jnp.array([0.3, 1.0, 1.5]), jnp.zeros(3))

    def one(state, command):
        return (dynamics.step(state, command, dynamics.params()),) * 2

    return jax.jit(lambda commands: jax.lax.scan(one, start, commands)[1])(jnp.asarray(commands, jnp.float32))


def test_it_moves_as_its_equations_say_with_targets_within_theirs():
    """Targets are at most (2, 2, 0.5) m/s, the scales of their action in [-1, 1]."""
    reach, times = np.array(THEIRS.reach), np.array(crazyflie.times(0.03))
    x, truth = np.concatenate([[0.3, 1.0, 1.5], np.zeros(9)]), []
    for command in commands_of(0):
        target = turn(x[3:6]) @ x[6:9] + times * np.clip(command, -reach, reach)
        x = stepped(x, np.append(np.clip(target, -np.array([2.0, 2.0, 0.5]), [2.0, 2.0, 0.5]), 0.0))
        truth.append(np.concatenate([x[:3], turn(x[3:6]) @ x[6:9], x[3:6], x[11:8:-1]]))
    states = flown(commands_of(0))
    ours = np.hstack([states.position, states.velocity, states.body.angles, states.body.rates])
    # Roundings of numbers of order ten, which the regulator damps.
    np.testing.assert_allclose(ours, truth, atol=2e-4)
    truth = np.array(truth)
    assert np.abs(truth[:, 3]).max() > 0.29 and np.abs(truth[:, 7]).max() > 0.2  # it is cut, and tilts


def test_its_regulator_is_the_one_of_the_motors():
    np.testing.assert_allclose(crazyflie.regulator(), MOTORS @ np.delete(GAIN, 2, axis=1), atol=1e-3)


def test_what_it_can_reach_leaves_its_targets_in_theirs_at_full_speed():
    targets = np.array(crazyflie.times(0.03)) * THEIRS.reach + crazyflie.LARGEST_SPEED
    assert np.all(targets <= crazyflie.LARGEST_TARGET) and np.all(targets > 0.97 * np.array(crazyflie.LARGEST_TARGET))


def test_thrust_is_the_acceleration_that_it_has():
    """By differences of the velocity, at small commands, with which it is not cut."""
    states = flown(0.05 * commands_of(1))
    change = np.diff(np.asarray(states.velocity), axis=0) / 0.03
    between = 0.5 * np.asarray(states.thrust[1:] + states.thrust[:-1])
    steady = np.arange(1, STEPS) % 4 != 0  # between changes of the command
    np.testing.assert_allclose(change[steady][:, :2], between[steady][:, :2], atol=0.02)


def test_its_attitude_is_a_unit_quaternion_of_its_angles():
    angles = np.array([0.3, -0.5, 0.7])
    body = crazyflie.Body(angles=jnp.asarray(angles, jnp.float32), rates=jnp.zeros(3))
    expected = Rotation.from_euler("ZYX", angles).as_quat(scalar_first=True)
    np.testing.assert_allclose(body.attitude, expected * np.sign(expected[0]), atol=1e-6)


@pytest.mark.slow
def test_its_gradient_is_that_of_central_differences():
    """Where it ends, by commands so small that nothing is cut; in float64."""
    with jax.enable_x64():
        physics = THEIRS.model_copy(update={"gradient_decay": 0.0})
        dynamics = make_dynamics(physics)
        drone, start = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
            for tree in (dynamics.params(), dynamics.initial(jnp.zeros(3), jnp.zeros(3)))
        )
        commands = jnp.asarray(np.random.default_rng(2).uniform(-0.8, 0.8, (6, 3)))

        def end(commands):
            last = jax.lax.scan(lambda state, one: (dynamics.step(state, one, drone), None), start, commands)[0]
            return jnp.dot(last.position, jnp.array([1.0, -2.0, 0.5])) + last.thrust[0]

        slope = jax.jit(jax.grad(end))(commands)
        changes = 1e-4 * jnp.eye(18).reshape(18, 6, 3)
        ends = jax.jit(jax.vmap(end))(jnp.concatenate([commands + changes, commands - changes]))
        np.testing.assert_allclose(slope.ravel(), (ends[:18] - ends[18:]) / 2e-4, rtol=1e-5, atol=1e-8)
        assert np.all(np.abs(slope[0]) > 1e-5)
