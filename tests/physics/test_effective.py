"""The fitted double integrator: it finds a point mass again, and describes a quadrotor better than none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import point_mass
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.effective import fit_effective, fit_queue, outside_of_traces

PERIOD, TRANSPORT = 0.05, 0.03
LEVEL, VERTICAL, DELAY = 0.093, 0.041, 0.072


@pytest.fixture(scope="module")
def fitted():
    """Fits while a function is traced, as where parameters are built inside of a compiled flight."""
    true = PhysicsConfig(time_step=PERIOD, delay=TRANSPORT, linear_drag=0.4)

    def step(state, command, params):
        lag = jnp.array([LEVEL, LEVEL, VERTICAL])
        return point_mass.step(state, command, params.replace(lag_time=lag, delay=jnp.float32(DELAY)), PERIOD)

    def fit():
        rest = initial_state(jnp.zeros(3), jnp.zeros(3), true)
        rest = rest.replace(queue=jnp.zeros((fit_queue(TRANSPORT, PERIOD), 3)))
        return fit_effective(step, rest, nominal_params(true), TRANSPORT, PERIOD)

    found = []

    @jax.jit
    def traced(x):
        found.append(outside_of_traces(fit))
        return x + found[0].delay

    assert float(traced(jnp.float32(0.0))) == pytest.approx(found[0].delay)
    return found[0]


def test_a_point_mass_is_found_again(fitted):
    assert fitted.lags == (LEVEL, LEVEL, VERTICAL) and fitted.delay == DELAY
    # Nothing is left but rounding, over 24 steps with velocities of a few metres per second.
    assert fitted.error < 1e-4


def test_a_command_acts_after_lag_and_delay(fitted):
    assert fitted.ahead == pytest.approx((DELAY + LEVEL, DELAY + LEVEL, DELAY + VERTICAL))


@pytest.mark.slow
@pytest.mark.parametrize("airframe", ["crazyflie", "racing"])
def test_where_a_command_acts_is_known_better_with_the_fitted_lag_than_without(airframe):
    """After a step, z of the acting point has grown by u t; without lag and delay z is the velocity now."""
    physics = PhysicsConfig(model="quadrotor", airframe=airframe)
    dynamics = make_dynamics(physics)
    drone, command = dynamics.params(), jnp.array([3.0, -2.0, 0.5])

    def one(state, _):
        return (dynamics.step(state, command, drone),) * 2

    start = dynamics.initial(jnp.zeros(3), jnp.zeros(3))
    states = jax.jit(lambda: jax.lax.scan(one, start, None, 12)[1])()
    acting = jax.vmap(lambda state: acting_motion(state, drone, physics.time_step))(states)
    drag = float(drone.linear_drag)
    sent = 0.05 * np.arange(1, 13)[:, None]
    ideal = np.asarray(command) * (1.0 - np.exp(-drag * sent)) / drag
    left, ignored = (np.abs(np.asarray(z) - ideal)[4:].max() for z in (acting.velocity, states.velocity))
    assert left < 0.4 * ignored and dynamics.effective.error < 1.0
