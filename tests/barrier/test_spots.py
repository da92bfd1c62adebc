"""Random points on surfaces of every shape, and the strata beside them, judged in float64 NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.spots import AROUND_START, SPOT, random_spot
from drone_cbf.barrier.strata import make_motion_sampler
from drone_cbf.draws import uniform_draws
from drone_cbf.training.curriculum.strata_mixture import STRATA
from tests.perception.worlds import scene_of, small_system
from tests.physics.solid_worlds import distances_of, mixed

SYSTEM = small_system()
ROUNDING = 1e-5
"""[m]: float32 at coordinates of a few metres."""
DRAWS = 2000
WORLD = mixed(2)
SCENE = scene_of(WORLD, start=(1.0, -0.5, 0.4))


@functools.cache
def spots() -> tuple[np.ndarray, np.ndarray]:
    """Points on surfaces and normals, (n, 3)."""

    def one(key):
        spot = random_spot(SCENE, uniform_draws(key, **SPOT))
        return spot.at(jnp.float32(0.0)), spot.outward

    points, normals = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), DRAWS))
    return np.float64(points), np.float64(normals)


@functools.cache
def owners() -> np.ndarray:
    """Which solid each spot lies on: of which the distance is zero, and one step along the normal that step."""
    points, normals = spots()
    on = [np.abs(d(points)) + np.abs(d(points + 0.01 * normals) - 0.01) for d in distances_of(WORLD)]
    assert np.min(on, axis=0).max() < ROUNDING, "every spot lies on a surface, and its normal points away from it"
    return np.argmin(on, axis=0)


def test_every_solid_is_as_likely_and_every_side_of_it():
    _, normals = spots()
    counts = np.bincount(owners(), minlength=13)
    assert np.abs(counts - DRAWS / 13).max() < 5.0 * np.sqrt(DRAWS / 13)
    for index, rotation in enumerate(np.float64(WORLD.boxes.rotation)):
        half = np.float64(WORLD.boxes.half_size[index])
        faces = np.concatenate([normals, -normals], 1).reshape(-1, 2, 3)[owners() == 4 + index] @ rotation
        share = np.mean(np.round(faces) == 1.0, axis=0).ravel()
        odds = np.tile(1.0 / np.sqrt(half), 2)  # by the square root of the area
        np.testing.assert_allclose(share, odds / odds.sum(), atol=0.15)
    for index, half in enumerate(np.float64(WORLD.cylinders.half_length)):
        heading, radius = np.float64(WORLD.cylinders.heading[index]), np.float64(WORLD.cylinders.radius[index])
        along = normals[owners() == 8 + index] @ [np.cos(heading), np.sin(heading), 0.0]
        np.testing.assert_allclose(np.mean(np.abs(along) < 0.5), 2.0 * half / (2.0 * half + radius), atol=0.15)
        assert (along > 0.5).any() and (along < -0.5).any()


def test_the_ground_is_met_around_the_start():
    points, _ = spots()
    offset = points[owners() == 12] - np.array(SCENE.start)
    assert np.abs(offset[:, :2]).max() <= AROUND_START + ROUNDING and np.ptp(offset[:, 0]) > AROUND_START


@pytest.mark.parametrize("name", STRATA)
def test_strata_among_all_shapes_are_finite_near_surfaces_and_rarely_inside(name):
    sample = jax.jit(jax.vmap(make_motion_sampler(name, SYSTEM), in_axes=(None, 0)))
    motions = sample(SCENE, jax.random.split(jax.random.key(1), 300))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(motions))
    places = np.float64(motions.position)
    nearest = np.min([distance(places) for distance in distances_of(WORLD)], axis=0)
    assert np.mean(nearest < SYSTEM.sensor.range) > 0.95
    # The solids of this world overlap: what is beside one of them may be inside another.
    assert np.mean(nearest > 0.0) > 0.6
