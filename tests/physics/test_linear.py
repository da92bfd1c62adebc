"""GCBF+'s LinearDrone and DoubleIntegrator against their equations, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.belief import predicted
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.point_mass import SMALLEST_LAG

KINDS = ("linear", "double_integrator")
THEIRS = {
    kind: PhysicsConfig(model=kind, time_step=0.03, delay=0.0, max_acceleration=(10.0, 10.0, 10.0)) for kind in KINDS
}
STEPS = 64
START, SPEED = np.array([0.3, 1.0, 1.5]), np.array([0.2, -0.1, 0.0])
# A few roundings per step of numbers of order one.
ROUNDING = STEPS * 4 * 1.2e-7


def flown(physics, commands, position=START, velocity=SPEED):
    dynamics = make_dynamics(physics)
    start = dynamics.initial(jnp.asarray(position, jnp.float32), jnp.asarray(velocity, jnp.float32))

    def one(state, command):
        return (dynamics.step(state, command, dynamics.params()),) * 2

    return jax.jit(lambda commands: jax.lax.scan(one, start, commands)[1])(jnp.asarray(commands, jnp.float32))


def linear_drone(x, action):
    """x' = A x + B u with u in [-1, 1]^3, x of positions and velocities."""
    a = np.zeros((6, 6))
    a[:3, 3:], a[3:, 3:] = np.eye(3), -np.diag([1.1, 1.1, 6.0])
    b = np.vstack([np.zeros((3, 3)), 10.0 * np.eye(3)])
    return x + 0.03 * (a @ x + b @ np.clip(action, -1.0, 1.0))


def double_integrator(x, action):
    """v' = u / m with u in [-1, 1]^2 and m = 0.1; there is no third axis."""
    rate = np.concatenate([x[3:], np.append(np.clip(action[:2], -1.0, 1.0) / 0.1, 0.0)])
    return x + 0.03 * rate


@pytest.mark.parametrize(("kind", "step"), [("linear", linear_drone), ("double_integrator", double_integrator)])
def test_it_moves_as_its_equations_say(kind, step):
    """Euler steps of 0.03 s, velocities cut at 0.5 m/s."""
    actions = np.random.default_rng(0).uniform(-1.3, 1.3, (STEPS, 3))
    x, truth = np.concatenate([START, SPEED]), []
    for action in actions:
        x = step(x, action)
        x[3:] = np.clip(x[3:], -0.5, 0.5)
        truth.append(x)
    states = flown(THEIRS[kind], 10.0 * actions)
    np.testing.assert_allclose(np.hstack([states.position, states.velocity]), truth, atol=ROUNDING)
    assert np.any(np.abs(states.velocity) == 0.5) and np.any(np.abs(states.velocity) < 0.4)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_central_differences(kind):
    """Where it ends, by every command; without the gradient decay, at small commands, with which no speed is cut."""
    commands = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3))
    physics = THEIRS[kind].model_copy(update={"gradient_decay": 0.0})

    def end(commands):
        return jnp.dot(flown(physics, commands).position[-1], jnp.array([1.0, -2.0, 0.5]))

    slope = np.asarray(jax.grad(end)(jnp.asarray(commands, jnp.float32)))
    # The end is linear in the commands: large differences are exact, but for rounding.
    changes = 0.25 * np.eye(24).reshape(24, 8, 3)
    ends = jax.vmap(end)(jnp.asarray(np.concatenate([commands + changes, commands - changes]), jnp.float32))
    np.testing.assert_allclose(slope.ravel(), (ends[:24] - ends[24:]) / 0.5, atol=ROUNDING)
    moved = slope[:-1] != 0.0  # the last command changes the velocity alone
    assert np.all(moved[:, :2]) and np.all(moved[:, 2] == (kind == "linear"))


def test_a_delay_is_rounded_up_to_whole_periods():
    """A command sent now acts two periods later: its effect on the velocity is there after the third."""
    theirs = THEIRS["linear"]
    late = theirs.model_copy(update={"delay": 0.04})
    assert make_dynamics(late).effective.delay == 0.06 and make_dynamics(theirs).effective.delay == 0.0
    pulse = np.zeros((4, 3))
    pulse[0, 0] = 5.0
    changed = np.abs(flown(late, pulse).velocity[:, 0] - flown(late, 0.0 * pulse).velocity[:, 0])
    assert np.all(changed[:2] < 1e-6) and changed[2] > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_what_controllers_believe_is_the_velocity_it_has_and_half_a_step_of_its_way(kind):
    """Drag is constant within a step in both; of the position a belief knows a t^2 / 2, which Euler leaves out."""
    physics, commands = THEIRS[kind], np.random.default_rng(2).uniform(-14.0, 14.0, (STEPS, 3))
    dynamics, states = make_dynamics(physics), flown(physics, commands)
    drone = dynamics.params()
    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    believed = jax.jit(jax.vmap(lambda state, command: predicted(state, command, drone, 0.03)))(
        before, jnp.asarray(commands[1:], jnp.float32)
    )
    # A belief without a lag has one of 0.1 ms, over which the command changes by up to 20 m/s^2.
    late = SMALLEST_LAG * 20.0
    np.testing.assert_allclose(believed.velocity, states.velocity[1:], atol=late + 1e-6)
    most = 0.5 * 0.03**2 * (10.0 + 0.5 * np.asarray(drone.linear_drag)) + 0.03 * late + 1e-6
    assert np.all(np.abs(believed.position - states.position[1:]) <= most)


def test_the_double_integrator_keeps_its_height_whatever_it_is_told():
    """A vertical speed, which its world does not have, ends with the first period."""
    commands = np.random.default_rng(3).uniform(-14.0, 14.0, (STEPS, 3))
    states = flown(THEIRS["double_integrator"], commands)
    np.testing.assert_array_equal(states.position[:, 2], np.float32(START[2]))
    np.testing.assert_array_equal(states.thrust[:, 2], 0.0)
    risen = flown(THEIRS["double_integrator"], commands, velocity=(0.0, 0.0, 0.4))
    np.testing.assert_array_equal(risen.velocity[:, 2], 0.0)
