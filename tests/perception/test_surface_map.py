"""The fitted surfaces against the true ones and against a batch least-squares fit of all readings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from drone_cbf.config import SensorConfig
from drone_cbf.perception.sensors import draw_noise, observe_surfaces
from drone_cbf.perception.surface_map import (
    SMALLEST_NOISE,
    UPRIGHT,
    empty_map,
    fitted_surfaces,
    make_surface_update,
    raw_surfaces,
)
from drone_cbf.physics.obstacles import nearest_surface_points
from tests.perception.worlds import capsules

PERIOD, STEPS = 0.05, 60
LEVEL = 0.05
CENTRES = [[0.0, 1.0, 0.3], [0.5, -0.9, -0.2], [1.0, 1.4, 0.5], [-0.6, -1.2, 0.2], [0.2, 1.1, 1.2], [2.0, -1.0, 0.4]]
RADII = [0.15, 0.3, 0.4, 0.2, 0.25, 0.35]
TRUNKS = np.array([False, True, False, True, False, True])
WORLD = capsules(CENTRES, RADII, half_height=np.where(TRUNKS, 30.0, 0.0))
CONFIG = SensorConfig()
PLACES = jnp.asarray(
    np.float32([-1.5, 0.0, 0.0]) + np.float32(PERIOD * np.arange(STEPS)[:, None]) * np.float32([1.4, 0.1, 0.3])
)
"""A flight that passes between all of them."""


def tracked(level, key, obstacles=WORLD, config=CONFIG):
    """Along ``PLACES``: the belief, the readings, the believed points and the true ones, each with a leading axis."""
    update = make_surface_update(config, PERIOD)
    slots = obstacles.active.shape[0]

    def one(belief, now):
        place, key, index = now
        there = obstacles.at(index * PERIOD)
        reading = observe_surfaces(there, place, draw_noise(level, slots, key), config)
        belief = update(belief, reading, place, level)
        believed = fitted_surfaces(belief, reading, place, jnp.float32(0.0))
        truth = nearest_surface_points(there, place)
        return belief, (belief, reading.points, believed.points, truth, believed.spread)

    start = (jnp.asarray(PLACES), jax.random.split(key, STEPS), jnp.arange(STEPS))
    return jax.lax.scan(one, empty_map(slots), start)[1]


fly = jax.jit(tracked)
fly_many = jax.jit(jax.vmap(tracked, in_axes=(None, 0)))


@pytest.fixture(scope="module")
def many():
    """Forty noisy flights."""
    return fly_many(jnp.float32(LEVEL), jax.random.split(jax.random.key(0), 40))


def test_without_noise_the_believed_points_are_the_readings():
    _, readings, points, truth, _ = fly(jnp.float32(0.0), jax.random.key(0))
    np.testing.assert_array_equal(readings, truth)
    np.testing.assert_allclose(points, truth, atol=SMALLEST_NOISE)


def test_without_noise_shape_centre_and_radius_are_found():
    belief, *_ = fly(jnp.float32(0.0), jax.random.key(0))
    better = np.argmin(np.asarray(belief.misfit[-1]), axis=0)
    np.testing.assert_array_equal(np.asarray(UPRIGHT)[better] == 1.0, TRUNKS)
    fit = np.asarray(belief.fit[-1])[:, better, np.arange(len(RADII))]
    np.testing.assert_allclose(fit[3], RADII, atol=5e-3)
    np.testing.assert_allclose(fit[:2].T, np.asarray(CENTRES)[:, :2], atol=5e-3)


def test_the_noise_left_in_the_points_is_a_fraction_of_the_sensors(many):
    _, readings, points, truth, _ = many
    seen, left = (
        np.sqrt(np.mean((np.asarray(x) - np.asarray(truth)) ** 2, axis=(0, 2, 3))) for x in (readings, points)
    )
    np.testing.assert_allclose(seen, LEVEL, rtol=0.2)
    assert left[10] < 0.5 * LEVEL and np.all(left[30:] < 0.33 * LEVEL)


def test_the_errors_are_as_large_as_the_covariance_says(many):
    """Mean squared error of the centres across the line of flight, in units of the believed variance, near one."""
    belief, *_ = many
    balls = np.flatnonzero(~TRUNKS)
    error = np.asarray(belief.fit)[:, -1, :3, 0][..., balls] - np.asarray(CENTRES)[balls].T
    covariance = np.asarray(belief.covariance)[:, -1, :3, :3, 0][..., balls]
    variance = np.moveaxis(np.diagonal(covariance, axis1=1, axis2=2), -1, 1)
    assert 0.5 < np.mean(error**2 / variance) < 2.0


def test_the_spread_handed_on_is_that_of_the_errors(many):
    _, _, points, truth, spread = many
    for index in (0, 5, 20, STEPS - 1):
        left = np.sqrt(np.mean((np.asarray(points) - np.asarray(truth))[:, index] ** 2))
        believed = np.sqrt(np.mean(np.asarray(spread)[:, index] ** 2))
        assert 0.7 < left / believed < 1.4


def test_the_spread_of_the_drones_own_position_is_added():
    belief = jax.tree.map(lambda leaf: leaf[-1], fly(jnp.float32(LEVEL), jax.random.key(0))[0])
    reading = observe_surfaces(WORLD, PLACES[-1], draw_noise(jnp.float32(0.0), len(RADII), jax.random.key(0)), CONFIG)
    alone, both = (fitted_surfaces(belief, reading, PLACES[-1], jnp.float32(x)).spread for x in (0.0, 0.04))
    np.testing.assert_allclose(both, np.hypot(alone, 0.04), rtol=1e-5)
    raw = raw_surfaces(reading, jnp.float32(0.03), jnp.float32(0.04))
    np.testing.assert_allclose(raw.spread, 0.05, rtol=1e-5)
    np.testing.assert_array_equal(raw.points, reading.points)


def test_with_surfaces_that_stand_still_the_fit_is_that_of_least_squares_over_all_readings():
    config = SensorConfig(surface_drift=0.0)
    belief, readings, *_ = jax.jit(lambda: tracked(jnp.float32(LEVEL), jax.random.key(1), config=config))()
    places = np.asarray(PLACES, np.float64)
    for slot in np.flatnonzero(~TRUNKS):
        seen = np.asarray(readings[:, slot], np.float64)

        def misfit(fit, seen=seen):
            away = places - fit[:3]
            points = fit[:3] + fit[3] * away / np.linalg.norm(away, axis=-1, keepdims=True)
            prior = (fit[3] - config.surface_radius) / config.surface_radius_spread
            return np.append(((points - seen) / LEVEL).ravel(), prior)

        batch = least_squares(misfit, np.append(CENTRES[slot], RADII[slot])).x
        spread = np.sqrt(np.diag(np.asarray(belief.covariance[-1, :, :, 0, slot])))
        # The filter linearises each reading once, where it then believed the surface to be.
        assert np.all(np.abs(np.asarray(belief.fit[-1, :, 0, slot]) - batch) < spread + 1e-3)


def test_a_surface_that_moves_as_the_sensor_says_is_followed():
    moving = capsules(CENTRES[:1], RADII[:1], velocity=[0.3, -0.2, 0.1])
    _, _, points, truth, _ = jax.jit(lambda: tracked(jnp.float32(0.0), jax.random.key(0), obstacles=moving))()
    np.testing.assert_allclose(points, truth, atol=1e-3)


def test_what_is_out_of_sight_is_neither_known_nor_changed():
    near = SensorConfig(range=1.0)
    belief, *_ = jax.jit(lambda: tracked(jnp.float32(LEVEL), jax.random.key(0), config=near))()
    known = np.asarray(belief.known)
    distance = np.linalg.norm(PLACES[:, None] - np.asarray(CENTRES), axis=-1)
    assert not known[0].any() and known[-1].any()
    last = len(CENTRES) - 1
    fits = np.asarray(belief.fit)[..., last]
    seen_first = int(np.argmax(known[:, last]))
    assert distance[seen_first, last] > RADII[last]
    np.testing.assert_array_equal(fits[:seen_first], 0.0)


def test_the_covariance_stays_symmetric_and_positive(many):
    covariance = np.moveaxis(np.asarray(many[0].covariance, np.float64)[:, -1], (1, 2), (-2, -1))
    np.testing.assert_allclose(covariance, np.swapaxes(covariance, -1, -2), atol=1e-7)
    assert np.linalg.eigvalsh(0.5 * (covariance + np.swapaxes(covariance, -1, -2))).min() > -1e-7


def test_the_believed_points_slide_along_the_surface_like_the_true_ones():
    """Gradient with respect to the place: of the fit after a noiseless flight, and of the true world by differences."""
    belief, *_ = fly(jnp.float32(0.0), jax.random.key(0))
    last = jax.tree.map(lambda leaf: leaf[-1], belief)
    place = jnp.asarray(PLACES[-1])
    reading = observe_surfaces(WORLD, place, draw_noise(jnp.float32(0.0), len(RADII), jax.random.key(0)), CONFIG)
    slopes = jax.jit(jax.jacobian(lambda q: fitted_surfaces(last, reading, q, jnp.float32(0.0)).points))(place)
    width = 1e-2
    for axis, e in enumerate(width * np.eye(3, dtype=np.float32)):
        truth = (nearest_surface_points(WORLD, place + e) - nearest_surface_points(WORLD, place - e)) / (2 * width)
        np.testing.assert_allclose(slopes[..., axis], truth, atol=5e-3)


def test_one_flight_of_a_batch_is_that_flight_alone_and_a_loop(many):
    key = jax.random.split(jax.random.key(0), 40)[7]
    alone = fly(jnp.float32(LEVEL), key)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[7], y, atol=1e-3), many[2], alone[2])
    update, belief = jax.jit(make_surface_update(CONFIG, PERIOD)), empty_map(len(RADII))
    for index, noise_key in enumerate(jax.random.split(key, STEPS)[:3]):
        noise = draw_noise(jnp.float32(LEVEL), len(RADII), noise_key)
        reading = observe_surfaces(WORLD, jnp.asarray(PLACES[index]), noise, CONFIG)
        belief = update(belief, reading, jnp.asarray(PLACES[index]), jnp.float32(LEVEL))
        np.testing.assert_allclose(belief.fit, alone[0].fit[index], atol=1e-4)
