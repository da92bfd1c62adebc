"""The thrust a multirotor can make, against a search for the largest admissible share of a command."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.thrust import attainable, limits_of
from drone_cbf.physics_config import GRAVITY

CONFIG = PhysicsConfig(model="attitude", max_tilt=40.0, min_thrust=0.3, max_thrust=1.7)
SLACK = 1e-3  # [m/s^2]: the share is exact but for the numbers that keep its divisions finite


def admissible(command: np.ndarray) -> np.ndarray:
    """Whether gravity and ``command`` (..., 3) together are within floor, ceiling and cone."""
    thrust = command + np.array([0.0, 0.0, GRAVITY])
    size, across = np.linalg.norm(thrust, axis=-1), np.linalg.norm(thrust[..., :2], axis=-1)
    tilted = across <= np.tan(np.radians(40.0)) * thrust[..., 2]
    return (size <= 1.7 * GRAVITY) & tilted & (thrust[..., 2] >= 0.3 * GRAVITY)


def test_a_command_keeps_its_direction_and_as_much_of_its_size_as_thrust_allows():
    commands = np.random.default_rng(0).uniform(-20.0, 20.0, (300, 3))
    shares = np.linspace(0.0, 1.0, 4001)
    possible = admissible(shares[:, None, None] * commands)
    expected = (np.argmin(np.concatenate([possible, np.zeros((1, 300), bool)]), axis=0) - 1) / 4000.0
    ours = jax.vmap(lambda command: attainable(command, limits_of(CONFIG)))(jnp.asarray(commands, jnp.float32))
    resolution = np.linalg.norm(commands, axis=-1, keepdims=True) / 4000.0
    assert np.all(np.abs(ours - expected[:, None] * commands) <= resolution + SLACK)
    assert 0.1 < np.mean(expected < 1.0) < 1.0, "some commands must be too large, some not"


@pytest.mark.parametrize("command", [(0.0, 0.0, 0.0), (0.0, 0.0, 5.0), (0.0, 0.0, -5.0), (3.0, 0.0, 0.0)])
def test_a_small_command_passes_with_a_finite_gradient(command):
    small = 0.2 * jnp.asarray(command)
    np.testing.assert_allclose(attainable(small, limits_of(CONFIG)), small, atol=1e-6)
    np.testing.assert_allclose(jax.jacobian(attainable)(small, limits_of(CONFIG)), np.eye(3), atol=1e-5)
    assert np.isfinite(jax.jacobian(attainable)(50.0 * small, limits_of(CONFIG))).all()


def test_the_reach_along_each_axis_is_what_thrust_allows_there():
    wide = CONFIG.model_copy(update={"max_acceleration": (100.0, 100.0, 100.0)})
    for axis, way in ((0, 1.0), (1, -1.0), (2, 1.0), (2, -1.0)):
        command = np.zeros(3)
        command[axis] = way * (wide.reach[axis] - 1e-3)
        assert admissible(command)
    assert not admissible(np.array([wide.reach[0] + 1e-2, 0.0, 0.0]))
    assert CONFIG.reach == tuple(np.minimum(wide.reach, CONFIG.max_acceleration))
