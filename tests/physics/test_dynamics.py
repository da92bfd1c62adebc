"""What every dynamics model promises, whatever it is: tests loop over the registry."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.dynamics import MODELS, make_dynamics
from drone_cbf.physics_config import ModelName

HORIZON = 300
HERE, SPEED = jnp.array([1.0, -2.0, 3.0]), jnp.array([1.0, 0.5, -0.2])


def config_of(model: str, **changes) -> PhysicsConfig:
    return PhysicsConfig.model_validate({"model": model, **changes})


def random_commands(count: int, size: float = 4.0, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).uniform(-size, size, (count, 3)), jnp.float32)


def flight_of(dynamics):
    """Function (state, commands, drone) -> states after each command."""

    def fly(state, commands, drone):
        def one(state, command):
            state = dynamics.step(state, command, drone)
            return state, state

        return jax.lax.scan(one, state, commands)[1]

    return fly


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name == "crazyflie")) for name in sorted(MODELS)],
)
def model(request):
    return request.param


def test_every_name_of_the_setting_has_its_model():
    assert set(typing.get_args(ModelName)) == set(MODELS)


def test_a_drone_starts_where_it_is_told_to_and_hovers_there(model):
    """In still air, without a command, at rest: nothing changes."""
    dynamics = make_dynamics(config_of(model))
    start = dynamics.initial(HERE, jnp.zeros(3))
    after = jax.jit(flight_of(dynamics))(start, jnp.zeros((20, 3)), dynamics.params())
    np.testing.assert_array_equal(start.position, HERE)
    np.testing.assert_allclose(after.position, np.tile(HERE, (20, 1)), atol=1e-4)
    np.testing.assert_allclose(after.velocity, 0.0, atol=1e-4)
    np.testing.assert_allclose(start.thrust, 0.0, atol=1e-5)


def test_commands_under_way_are_remembered_newest_first(model):
    dynamics = make_dynamics(config_of(model))
    commands = random_commands(6, size=1.0)
    start = dynamics.initial(HERE, SPEED)
    drone = dynamics.params()
    queue = np.asarray(flight_of(dynamics)(start, commands, drone).queue)[-1]
    assert queue.shape == start.queue.shape == (dynamics.queue, 3) and dynamics.queue >= 2
    followed = np.clip(commands[::-1], -drone.max_acceleration, drone.max_acceleration)
    np.testing.assert_allclose(queue, followed[: dynamics.queue], rtol=1e-6)


def test_where_a_command_acts_the_drone_follows_it_at_once(model):
    """A small command, held for a second: there the velocity is that of a double integrator with drag and no delay."""
    dynamics = make_dynamics(config_of(model))
    drone = dynamics.params()
    way = np.array([0.2, -0.15, 0.2]) * (drone.max_acceleration > 0.0)
    commands = jnp.tile(jnp.asarray(way, jnp.float32), (20, 1))
    states = jax.jit(flight_of(dynamics))(dynamics.initial(HERE, jnp.zeros(3)), commands, drone)
    acting = jax.jit(jax.vmap(lambda state: acting_motion(state, drone, 0.05)))(states).velocity
    drag = np.maximum(np.asarray(drone.linear_drag, np.float64), 1e-9)
    expected = way * (1.0 - np.exp(-drag)) / drag
    np.testing.assert_allclose(acting[-1], expected, rtol=0.1)
    assert np.linalg.norm(acting[4] - states.velocity[4]) > 0.005, "the drone itself is not there yet"


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("quadrotor", "crazyflie"))) for name in sorted(MODELS)],
)
def test_a_flight_of_many_steps_has_finite_gradients_that_fade(model):
    """To state, commands and parameters; the gradient decay shrinks what reaches the start."""

    def slopes(decay):
        dynamics = make_dynamics(config_of(model, gradient_decay=decay))
        fly, drone = flight_of(dynamics), dynamics.params()

        def end(position, velocity, commands, wind):
            start = dynamics.initial(position, velocity)
            return jnp.sum(fly(start, commands, drone.replace(wind=wind)).position[-1])

        inputs = (HERE, SPEED, random_commands(HORIZON), jnp.zeros(3))
        return jax.jit(jax.grad(end, argnums=(0, 1, 2, 3)))(*inputs)

    plain, decayed = slopes(0.0), slopes(2.5)
    assert tree_all_finite(plain) and tree_all_finite(decayed)
    np.testing.assert_allclose(plain[0], 1.0, rtol=1e-4, err_msg="where it ends moves with where it starts")
    np.testing.assert_allclose(decayed[0], np.exp(-2.5 * 0.05 * HORIZON) * np.asarray(plain[0]), rtol=1e-3)
    assert np.linalg.norm(decayed[1]) < 1e-3 * np.linalg.norm(plain[1])
    assert np.abs(decayed[2][-20:]).max() > 1e-4, "late commands are still felt"


def test_the_values_do_not_depend_on_the_gradient_decay(model):
    ends = []
    for decay in (0.0, 2.5):
        dynamics = make_dynamics(config_of(model, gradient_decay=decay))
        start = dynamics.initial(HERE, SPEED)
        ends.append(jax.jit(flight_of(dynamics))(start, random_commands(30), dynamics.params()))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), *ends)


def test_a_random_drone_differs_and_flies(model):
    dynamics = make_dynamics(config_of(model))
    nominal, fly = dynamics.params(), jax.jit(flight_of(dynamics))
    drones = jax.vmap(dynamics.randomise, (None, 0))(nominal, jax.random.split(jax.random.key(1), 4))
    assert jax.tree.structure(drones) == jax.tree.structure(nominal)
    start = dynamics.initial(HERE, jnp.zeros(3))
    ends = jax.vmap(lambda drone: fly(start, random_commands(20), drone).position[-1])(drones)
    assert np.isfinite(ends).all() and np.ptp(np.asarray(ends)[:, 0]) > 1e-3


def test_many_drones_at_once_fly_as_each_alone(model):
    dynamics = make_dynamics(config_of(model))
    fly, starts = flight_of(dynamics), jnp.stack([HERE, 2.0 * HERE])
    commands = jnp.stack([random_commands(20, seed=seed) for seed in (1, 2)])

    def end(start, commands):
        return fly(dynamics.initial(start, SPEED), commands, dynamics.params()).velocity[-1]

    together = jax.jit(jax.vmap(end))(starts, commands)
    for index in range(2):
        np.testing.assert_allclose(together[index], jax.jit(end)(starts[index], commands[index]), atol=1e-4)
