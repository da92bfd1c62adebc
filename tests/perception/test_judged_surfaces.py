"""Fitted surfaces are believed only where a ball or an upright cylinder explains what is read of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.sensors import draw_noise, observe_surfaces, surfaces_around
from drone_cbf.perception.surface_map import empty_map, fitted_surfaces, judged_surfaces, make_surface_update
from drone_cbf.physics.obstacles import PLANE, Obstacles
from tests.perception.worlds import boxes, capsules

CONFIG = SensorConfig(range=30.0)
NOISE, DT, STEPS = 0.02, 0.05, 40
PLACES = jnp.stack([jnp.linspace(-6.0, 2.0, STEPS), jnp.full(STEPS, 0.3), jnp.full(STEPS, 0.2)], -1)  # 4 m/s past both
TREE = capsules([[0.0, 2.0, 0.0]], 0.4, 30.0)
WALL = boxes([[0.0, -3.0, 0.0]], [[8.0, 1.0, 4.0]])
WORLD = Obstacles(TREE.capsules, WALL.boxes, WALL.cylinders, WALL.ground)
RAW = NOISE * np.sqrt(3.0)  # Size of a reading's error


@functools.cache
def flown():
    """Errors of the fitted and the judged points at each step [m], (steps, 2), and the judged radii [m]."""
    update = make_surface_update(CONFIG, DT)

    def one(belief, now):
        place, key = now
        reading = observe_surfaces(WORLD, place, draw_noise(jnp.float32(NOISE), 2, key), CONFIG)
        belief = update(belief, reading, place, jnp.float32(NOISE))
        fitted = fitted_surfaces(belief, reading, place, jnp.float32(0.0))
        judged = judged_surfaces(belief, reading, place, jnp.float32(NOISE), jnp.float32(0.0))
        truth = surfaces_around(WORLD, place, CONFIG).points
        errors = [jnp.linalg.norm(some.points - truth, axis=-1) for some in (fitted, judged)]
        return belief, (*errors, judged.radius, judged.spread)

    keys = jax.random.split(jax.random.key(0), STEPS)
    _, found = jax.jit(lambda: jax.lax.scan(one, empty_map(2, judged=True), (PLACES, keys)))()
    return tuple(np.asarray(each)[8:] for each in found)  # after 0.4 s


def test_of_a_trunk_the_fit_is_believed_and_is_better_than_a_reading():
    fitted, judged, radius, spread = flown()
    np.testing.assert_array_equal(judged[:, 0], fitted[:, 0])
    assert np.sqrt(np.mean(judged[:, 0] ** 2)) < 0.8 * RAW and spread[-1, 0] < NOISE
    assert np.all(radius[:, 0] < 1.0) and np.all(radius[5:, 0] > 0.3)


def test_a_wall_that_no_ball_explains_is_taken_as_read_and_as_a_plane():
    fitted, judged, radius, spread = flown()
    assert np.mean(fitted[:, 1]) > 4.0 * RAW, "else there were nothing to judge"
    assert np.quantile(judged[:, 1], 0.9) < 2.0 * RAW
    assert np.all(radius[:, 1] == PLANE) and np.allclose(spread[:, 1], NOISE)


def test_only_a_judging_map_remembers_the_surprise():
    assert empty_map(3).surprise is None and empty_map(3, judged=True).surprise.shape == (2, 3)


@pytest.mark.parametrize("judged", [False, True])
def test_judging_changes_no_fit(judged):
    update, key = make_surface_update(CONFIG, DT), jax.random.key(1)
    reading = observe_surfaces(WORLD, PLACES[0], draw_noise(jnp.float32(NOISE), 2, key), CONFIG)
    once = update(empty_map(2, judged=judged), reading, PLACES[0], jnp.float32(NOISE))
    twice = update(once, reading, PLACES[1], jnp.float32(NOISE))
    plain = update(update(empty_map(2), reading, PLACES[0], jnp.float32(NOISE)), reading, PLACES[1], jnp.float32(NOISE))
    np.testing.assert_array_equal(twice.fit, plain.fit)
    np.testing.assert_array_equal(twice.misfit, plain.misfit)
