"""Drones drawn at random: within their ranges, flown as drawn, and never known to the controller."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig, SystemConfig
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.point_mass import step
from drone_cbf.physics.randomisation import DRAG, LAG, MASS, WIND, random_drone
from drone_cbf.scenes.scene import with_random_drone
from tests.perception.worlds import capsules, scene_of

PHYSICS = PhysicsConfig(lag_time=0.1, linear_drag=0.4, quadratic_drag=0.02)
DRAWN = 2000


@pytest.fixture(scope="module")
def drones():
    keys = jax.random.split(jax.random.key(0), DRAWN)
    return jax.jit(jax.vmap(random_drone, in_axes=(None, 0)))(nominal_params(PHYSICS), keys)


@pytest.mark.parametrize(
    ("name", "nominal", "spread"),
    [("linear_drag", 0.4, DRAG), ("quadratic_drag", 0.02, DRAG), ("lag_time", 0.1, LAG), ("gain", 1.0, MASS)],
)
def test_drones_fill_the_documented_ranges_and_no_more(drones, name, nominal, spread):
    values = np.asarray(getattr(drones, name), np.float64)
    ratio = nominal / values if name == "gain" else values / nominal  # a gain is the inverse of a mass
    rounding = 1e-6
    assert 1.0 - spread - rounding <= ratio.min() and ratio.max() <= 1.0 + spread + rounding
    assert ratio.min() < 1.0 - 0.95 * spread and ratio.max() > 1.0 + 0.95 * spread
    # Standard error of the mean of a uniform distribution, six times.
    assert abs(ratio.mean() - 1.0) < 6.0 * spread / np.sqrt(3.0 * DRAWN)


def test_mass_drag_and_lag_are_drawn_apart_and_the_rest_stays(drones):
    columns = np.stack([drones.gain, drones.linear_drag, drones.lag_time])
    off_diagonal = np.corrcoef(columns)[np.triu_indices(3, 1)]
    assert np.abs(off_diagonal).max() < 6.0 / np.sqrt(DRAWN)
    np.testing.assert_allclose(drones.linear_drag / drones.quadratic_drag, 20.0, rtol=1e-5)
    for name in ("delay", "max_acceleration", "wind", "bias"):
        np.testing.assert_array_equal(getattr(drones, name)[0], getattr(nominal_params(PHYSICS), name))


def test_a_heavier_drone_accelerates_less_up_to_its_own_limit():
    """Without lag, delay and drag, a step of dt from rest ends at v = gain * u * dt, with u cut at its limit."""
    physics = PhysicsConfig(lag_time=0.0, delay=0.0, linear_drag=0.0, quadratic_drag=0.0)
    heavy = nominal_params(physics).replace(gain=jnp.float32(0.8))
    rest = initial_state(jnp.zeros(3), jnp.zeros(3), physics)
    after = step(rest, jnp.array([1.0, -100.0, 2.0]), heavy, physics.time_step)
    expected = 0.8 * physics.time_step * np.array([1.0, -12.0, 2.0])
    np.testing.assert_allclose(after.velocity, expected, rtol=2e-3)  # SMALLEST_LAG of 0.1 ms in 50 ms


def test_the_air_around_random_drones_moves_more():
    scene = scene_of(capsules([[1.0, 0.0, 0.0]], 0.2)).replace(wind=jnp.ones(3), gust=0.1 * jnp.ones(3))
    other = with_random_drone(scene, SystemConfig().physics, jax.random.key(1))
    np.testing.assert_allclose(other.wind, WIND)
    np.testing.assert_allclose(other.gust, 0.1 * WIND, rtol=1e-6)


@pytest.mark.parametrize("model", ["point_mass", "attitude", "quadrotor"])
def test_a_random_delay_is_that_of_the_flown_drone_and_its_controller_keeps_the_configured_one(model):
    """From rest, the velocity is zero until the drawn delay has passed, whatever the controller believes."""
    jittery = PhysicsConfig(model=model, belief="configured", delay=0.06, random_delay=0.6, lag_time=0.0)
    dynamics = make_dynamics(jittery)
    drones = jax.vmap(dynamics.randomise, in_axes=(None, 0))(dynamics.params(), jax.random.split(jax.random.key(3), 64))
    delays = np.asarray(drones.delay if drones.airframe is None else drones.airframe.transport)
    assert 0.4 * 0.06 - 1e-6 <= delays.min() < 0.6 * 0.06 and 1.4 * 0.06 < delays.max() <= 1.6 * 0.06 + 1e-6
    assert dynamics.params().delay == np.float32(0.06) and dynamics.queue * jittery.time_step >= jittery.longest_delay

    @jax.jit
    def speeds(drone):
        def one(state, _):
            state = dynamics.step(state, jnp.array([4.0, 0.0, 0.0]), drone)
            return state, state.velocity[0]

        return jax.lax.scan(one, dynamics.initial(jnp.zeros(3), jnp.zeros(3)), None, 3)[1]

    moved = np.stack([np.asarray(speeds(jax.tree.map(lambda leaf, i=i: leaf[i], drones))) for i in range(8)])
    ends = jittery.time_step * np.arange(1, 4)
    slack = 1.5 / jittery.inner_rate  # an inner loop notices a command at its next step
    for velocity, delay in zip(moved, delays[:8], strict=True):
        assert np.all(np.abs(velocity[ends <= delay - 1e-4]) < 1e-4) and np.all(velocity[ends > delay + slack] > 1e-4)


def test_without_a_random_delay_drones_are_drawn_as_they_were():
    key, plain = jax.random.key(5), make_dynamics(PHYSICS)
    jittery = make_dynamics(PHYSICS.model_copy(update={"random_delay": 0.5}))
    one, other = plain.randomise(plain.params(), key), jittery.randomise(jittery.params(), key)
    for name in ("gain", "linear_drag", "quadratic_drag", "lag_time"):
        assert getattr(one, name) == getattr(other, name)
    assert one.delay == np.float32(PHYSICS.delay) != other.delay
