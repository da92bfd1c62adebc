"""GCBF+'s LinearDrone against its equations, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.dynamics import make_dynamics

THEIRS = PhysicsConfig(model="linear", time_step=0.03, delay=0.0, max_acceleration=(10.0, 10.0, 10.0))
STEPS = 64


def flown(physics, commands):
    dynamics = make_dynamics(physics)
    start = dynamics.initial(jnp.array([0.3, 1.0, 1.5]), jnp.array([0.2, -0.1, 0.4]))

    def one(state, command):
        return (dynamics.step(state, command, dynamics.params()),) * 2

    return jax.jit(lambda: jax.lax.scan(one, start, jnp.asarray(commands, jnp.float32))[1])()


def test_it_moves_as_its_equations_say():
    """x' = A x + B u with u in [-1, 1]; Euler steps of 0.03 s, velocities cut at 0.5 m/s."""
    actions = np.random.default_rng(0).uniform(-1.3, 1.3, (STEPS, 3))
    a = np.zeros((6, 6))
    a[:3, 3:], a[3:, 3:] = np.eye(3), -np.diag([1.1, 1.1, 6.0])
    b = np.vstack([np.zeros((3, 3)), 10.0 * np.eye(3)])
    x, truth = np.array([0.3, 1.0, 1.5, 0.2, -0.1, 0.4]), []
    for action in actions:
        x = x + 0.03 * (a @ x + b @ np.clip(action, -1.0, 1.0))
        x[3:] = np.clip(x[3:], -0.5, 0.5)
        truth.append(x)
    states = flown(THEIRS, 10.0 * actions)
    # A few roundings per step of numbers of order one.
    np.testing.assert_allclose(np.hstack([states.position, states.velocity]), truth, atol=STEPS * 4 * 1.2e-7)
    assert np.any(np.abs(states.velocity) == 0.5) and np.any(np.abs(states.velocity) < 0.4)


def test_a_delay_is_rounded_up_to_whole_periods():
    """A command sent now acts two periods later: its effect on the velocity is there after the third."""
    late = THEIRS.model_copy(update={"delay": 0.04})
    assert make_dynamics(late).effective.delay == 0.06 and make_dynamics(THEIRS).effective.delay == 0.0
    pulse = np.zeros((4, 3))
    pulse[0, 0] = 5.0
    changed = np.abs(flown(late, pulse).velocity[:, 0] - flown(late, 0.0 * pulse).velocity[:, 0])
    assert np.all(changed[:2] < 1e-6) and changed[2] > 0.1
