"""What the drone sees, how far, and with what errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig, SensorConfig
from drone_cbf.perception.sensors import SensorNoise, draw_noise, observe_motion, observe_surfaces
from drone_cbf.physics.drone import initial_state
from drone_cbf.physics.obstacles import nearest_surface_points, obstacles_of, surface_distances
from drone_cbf.physics.solids.capsules import Capsules

CONFIG = SensorConfig()
READINGS, SLOTS = 4000, 6
ROUNDING = 1e-6
"""[m]: of one float32 sum at coordinates of a few metres."""


@pytest.fixture(scope="module")
def state():
    return initial_state(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, -1.0, 0.0]), PhysicsConfig())


@pytest.fixture(scope="module")
def obstacles():
    """Spheres at distances from well inside to well beyond the sensing radius; the last slot is unused."""
    radius = np.full(SLOTS, 0.5)
    away = CONFIG.range * np.array([0.2, 0.9, 0.999, 1.001, 1.5, 0.3])
    centre = np.zeros((SLOTS, 3))
    centre[:, 0] = away + radius
    return obstacles_of(
        Capsules(
            centre=jnp.asarray(centre, jnp.float32),
            radius=jnp.asarray(radius, jnp.float32),
            half_height=jnp.zeros(SLOTS),
            velocity=jnp.asarray(np.random.default_rng(0).normal(size=(SLOTS, 3)), jnp.float32),
            active=jnp.arange(SLOTS) < SLOTS - 1,
        )
    )


@pytest.fixture(scope="module")
def noises():
    keys = jax.random.split(jax.random.key(0), READINGS)
    return jax.jit(jax.vmap(lambda key: draw_noise(jnp.float32(0.05), SLOTS, key)))(keys)


def test_every_error_is_normal_with_the_stated_spread(noises):
    errors = np.concatenate([np.asarray(noises.position), np.asarray(noises.velocity)], -1)
    errors = np.concatenate([errors, np.asarray(noises.points).reshape(READINGS, -1)], -1).astype(np.float64) / 0.05
    five = 5.0 / np.sqrt(READINGS)
    np.testing.assert_allclose(errors.mean(0), 0.0, atol=five)
    np.testing.assert_allclose(errors.var(0), 1.0, atol=five * np.sqrt(2.0))
    np.testing.assert_allclose((errors**4).mean(0), 3.0, atol=five * np.sqrt(96.0))
    correlation = np.corrcoef(errors.T) - np.eye(errors.shape[1])
    assert np.abs(correlation).max() < five


def test_the_errors_are_added_to_the_truth(state, obstacles, noises):
    noise = jax.tree.map(lambda x: x[0], noises)
    seen = observe_motion(state, noise)
    np.testing.assert_allclose(seen.position, state.position + noise.position, atol=ROUNDING)
    np.testing.assert_allclose(seen.velocity, state.velocity + noise.velocity, atol=ROUNDING)
    points = observe_surfaces(obstacles, jnp.zeros(3), noise, CONFIG).points
    np.testing.assert_allclose(points - nearest_surface_points(obstacles, jnp.zeros(3)), noise.points, atol=1e-4)


def test_without_noise_everything_is_seen_exactly(state, obstacles):
    noise = draw_noise(jnp.float32(0.0), SLOTS, jax.random.key(3))
    seen = observe_motion(state, noise)
    np.testing.assert_array_equal(seen.position, state.position)
    np.testing.assert_array_equal(seen.velocity, state.velocity)
    surfaces = observe_surfaces(obstacles, jnp.zeros(3), noise, CONFIG)
    np.testing.assert_array_equal(surfaces.points, nearest_surface_points(obstacles, jnp.zeros(3)))
    np.testing.assert_array_equal(surfaces.velocity, obstacles.velocity)


def test_only_active_surfaces_within_the_radius_are_visible(obstacles):
    quiet = SensorNoise(position=jnp.zeros(3), velocity=jnp.zeros(3), points=jnp.zeros((SLOTS, 3)))
    surfaces = observe_surfaces(obstacles, jnp.zeros(3), quiet, CONFIG)
    np.testing.assert_array_equal(surfaces.visible, [True, True, True, False, False, False])


def test_noise_does_not_change_what_is_visible(obstacles, noises):
    loud = jax.tree.map(lambda x: 100.0 * x[0], noises)
    surfaces = observe_surfaces(obstacles, jnp.zeros(3), loud, CONFIG)
    expected = obstacles.active & (surface_distances(obstacles, jnp.zeros(3)) < CONFIG.range)
    np.testing.assert_array_equal(surfaces.visible, expected)


def test_one_key_gives_one_reading():
    first, again, other = (draw_noise(jnp.float32(0.1), SLOTS, jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.any(np.asarray(first.points) == np.asarray(other.points))
