"""Distances to every shape: against float64 formulas, sampled surfaces, sampled motions and central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.gaps import normals
from drone_cbf.physics.obstacles import FAR, nearest_surface_points, obstacles_of, surface_distances, swept_distances
from drone_cbf.physics.solids.boxes import Boxes
from tests.physics.solid_worlds import distances_of, mixed, rows_of, surface_of

ROUNDING = 1e-5
"""[m]: float32 at coordinates of up to 10 m, through a square root."""
PLACES = np.random.default_rng(1).uniform(-4.0, 4.0, (400, 3)).astype(np.float32)
WORLD = mixed()

nearest = jax.jit(jax.vmap(nearest_surface_points, in_axes=(None, 0)))
distances = jax.jit(jax.vmap(surface_distances, in_axes=(None, 0)))
slopes = jax.jit(jax.vmap(jax.jacobian(lambda x, world: surface_distances(world, x)), in_axes=(0, None)))


@functools.partial(jax.jit, static_argnums=3)
def swept(world, start, end, duration):
    return jax.vmap(lambda a, b: swept_distances(world, a, b, duration))(start, end)


@functools.cache
def inside_and_out() -> np.ndarray:
    """Places everywhere, and some within each solid but the ground."""
    rng = np.random.default_rng(2)
    shapes = [WORLD.capsules, WORLD.boxes, WORLD.cylinders]
    centres = np.concatenate([np.asarray(solids.centre) for solids in shapes])
    scales = (0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4)
    beside = [centres + scale * rng.normal(size=centres.shape) for scale in scales]
    return np.concatenate([PLACES, *beside]).astype(np.float32)


def test_distances_are_signed_and_exact_inside_and_out():
    places = inside_and_out()
    expected = np.stack([distance(np.float64(places)) for distance in distances_of(WORLD)], -1)
    assert ((expected < -0.05).sum(0) >= 3).all(), "every solid has places inside"
    np.testing.assert_allclose(distances(WORLD, places), expected, atol=ROUNDING)


def test_the_nearest_point_lies_on_the_surface_at_the_distance_reported():
    places = inside_and_out()
    points = np.float64(nearest(WORLD, places))
    for index, distance in enumerate(distances_of(WORLD)):
        np.testing.assert_allclose(distance(points[:, index]), 0.0, atol=ROUNDING)
        apart = np.linalg.norm(places - points[:, index], axis=-1)
        np.testing.assert_allclose(apart, np.abs(distance(np.float64(places))), atol=ROUNDING)


@pytest.mark.parametrize("shape", ["boxes", "cylinders"])
def test_no_point_of_a_sampled_surface_is_nearer(shape):
    first = {"boxes": 4, "cylinders": 8}[shape]
    places = inside_and_out()
    found = np.asarray(distances(WORLD, places))[-90:, first : first + 4]
    places = places[-90:]
    assert (found < 0.0).sum() > 20
    for index, row in enumerate(rows_of(getattr(WORLD, shape))):
        surface = surface_of(shape, row)
        gaps = np.array([np.linalg.norm(surface - place, axis=-1).min() for place in places])
        excess = gaps - np.abs(found[:, index])
        # Samples of the largest side, 4 m long or 2 pi 0.8 m round, are 0.04 m apart: one lies within 0.03 m.
        assert excess.min() >= -ROUNDING and excess.max() <= 0.03


def test_the_gradient_of_the_distance_is_that_of_central_differences():
    places, step = np.float64(PLACES), 1e-5
    ours = np.asarray(slopes(PLACES, WORLD))
    for index, distance in enumerate(distances_of(WORLD)):
        central = np.stack([(distance(places + e) - distance(places - e)) / (2 * step) for e in step * np.eye(3)], -1)
        smooth = np.linalg.norm(central, axis=-1) > 1.0 - 1e-6  # not where two faces are equally far
        assert smooth.mean() > 0.98 and (distance(places) > 0.05).any()
        near = np.abs(distance(places)) > 0.02
        np.testing.assert_allclose(ours[smooth & near, index], central[smooth & near], atol=2e-4)


def singular_places() -> np.ndarray:
    """Centres, axes, faces, edges and corners."""
    boxes = rows_of(WORLD.boxes)
    signs = np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [1, 1, 0], [1, -1, 1], [-1, 2, 0]])
    places = [row["centre"] + (sign * row["half_size"]) @ row["rotation"].T for row in boxes for sign in signs]
    for row in rows_of(WORLD.cylinders):
        axis = np.array([np.cos(row["heading"]), np.sin(row["heading"]), 0.0])
        up = np.array([0.0, 0.0, row["radius"]])
        steps = [0.0 * up, up, 0.5 * axis, row["half_length"] * axis, row["half_length"] * axis + up, 3.0 * axis]
        places += [row["centre"] + step for step in steps]
    return np.float32([*places, *np.asarray(WORLD.capsules.centre), [0.0, 0.0, -1.5]])


def test_every_gradient_is_finite_on_axes_faces_edges_and_corners():
    places = singular_places()
    assert np.isfinite(slopes(places, WORLD)).all()
    point_slopes = jax.jit(jax.vmap(jax.jacobian(lambda x: nearest_surface_points(WORLD, x))))(places)
    assert np.isfinite(point_slopes).all()

    def passing(start, end, world):
        return jnp.sum(swept_distances(world, start, end, 0.1))

    ends = np.concatenate([places[::-1], places, places + np.float32([0.0, 0.0, 1.0])])
    every = jax.jit(jax.vmap(jax.grad(passing, (0, 1, 2), allow_int=True), (0, 0, None)))(
        np.tile(places, (3, 1)), ends, WORLD
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(every) if leaf.dtype == np.float32)


@pytest.mark.parametrize("way", [0.2, 4.0])
def test_the_swept_distance_matches_a_densely_sampled_motion_among_moving_solids(way):
    """Short as in a step of the simulation, and right through several solids."""
    rng = np.random.default_rng(3)
    start = inside_and_out()
    end = (start + way * rng.normal(size=start.shape)).astype(np.float32)
    duration, samples = 0.1 * way, 400
    ours = np.asarray(swept(WORLD, start, end, duration))
    least = np.full(ours.shape, np.inf)
    for fraction in np.linspace(0.0, 1.0, samples + 1):
        places = start + fraction * (end.astype(np.float64) - start)
        at = [distance(places) for distance in distances_of(WORLD, fraction * duration)]
        least = np.minimum(least, np.stack(at, -1))
    assert (least < -0.05).sum() > 100 and (least > 0.05).sum() > 100
    assert np.all(ours <= least + ROUNDING)
    # Between samples the distance changes by at most the relative way to the nearer sample.
    relative = np.linalg.norm((end - start)[:, None] - duration * np.asarray(WORLD.velocity), axis=-1)
    assert np.all(ours >= least - relative / samples / 2 - ROUNDING)


def test_the_slope_of_the_swept_distance_is_that_of_central_differences():
    """Beside, above and through: also where the greatest depth is between two faces that move past each other."""
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        world = jax.tree.map(lambda x: x if x.dtype == bool else jnp.asarray(x, jnp.float64), WORLD)
        starts = np.float64(inside_and_out()[-60:])
        ends = starts + 2.0 * rng.normal(size=starts.shape)
        least = jax.jit(jax.vmap(lambda a, b: swept_distances(world, a, b, 0.3)))
        ours = jax.jit(jax.vmap(jax.jacobian(lambda a, b: swept_distances(world, a, b, 0.3))))(starts, ends)
        step = 1e-6
        central = [(least(starts + e, ends) - least(starts - e, ends)) / (2 * step) for e in step * np.eye(3)]
        ours, central = np.asarray(ours), np.stack(central, -1)
    np.testing.assert_allclose(ours, central, atol=1e-3)


def test_a_thin_wall_between_two_samples_is_hit_and_its_window_is_not():
    """A wall of 2 cm with a window of 0.6 m, crossed within one step."""
    centre = np.float32([[1.0, 1.3, 0.0], [1.0, -1.3, 0.0], [1.0, 0.0, 1.3], [1.0, 0.0, -1.3]])
    half = np.float32([[0.01, 1.0, 2.0], [0.01, 1.0, 2.0], [0.01, 0.3, 1.0], [0.01, 0.3, 1.0]])
    wall = obstacles_of(
        boxes=Boxes(
            centre=jnp.asarray(centre),
            half_size=jnp.asarray(half),
            rotation=jnp.broadcast_to(jnp.eye(3), (4, 3, 3)),
            velocity=jnp.zeros((4, 3)),
            active=jnp.ones(4, bool),
        )
    )
    start, end = np.float32([[0.0, 0.0, 0.0], [0.0, 0.9, 0.4]]), np.float32([[2.0, 0.0, 0.0], [2.0, 0.9, 0.4]])
    found = np.asarray(swept(wall, start, end, 0.05))
    np.testing.assert_allclose(found[0], 0.3, atol=ROUNDING)
    np.testing.assert_allclose(found[1].min(), -0.01, atol=ROUNDING)


def test_standing_still_the_swept_distance_is_the_distance():
    places = inside_and_out()
    moving = (WORLD.capsules, WORLD.boxes, WORLD.cylinders)
    still = obstacles_of(*(solids.replace(velocity=0.0 * solids.velocity) for solids in moving), WORLD.ground)
    np.testing.assert_allclose(swept(still, places, places, 0.1), distances(still, places), atol=ROUNDING)


def test_solids_move_with_their_velocity_and_unused_ones_are_far():
    places = inside_and_out()
    later = [distance(np.float64(places)) for distance in distances_of(WORLD, 0.7)]
    np.testing.assert_allclose(distances(WORLD.at(0.7), places), np.stack(later, -1), atol=ROUNDING)
    kept = np.arange(WORLD.active.shape[0]) % 2 == 0
    some = WORLD.only(jnp.asarray(kept))
    for found in (distances(some, places), swept(some, places, places[::-1], 0.1)):
        assert np.all(np.asarray(found)[:, ~kept] == FAR) and np.all(np.asarray(found)[:, kept] != FAR)
    away = np.linalg.norm(np.asarray(nearest(some, places)) - places[:, None], axis=-1)
    np.testing.assert_allclose(away[:, ~kept], FAR, rtol=1e-6)


def test_normals_point_outwards_from_inside_as_from_outside():
    places = np.float64(inside_and_out())
    ours = np.asarray(jax.jit(jax.vmap(normals, in_axes=(None, 0)))(WORLD, np.float32(places)))
    for index, distance in enumerate(distances_of(WORLD)):
        clear = np.abs(distance(places)) > 0.01
        grown = distance(places + 1e-3 * ours[:, index]) - distance(places)
        assert np.all(grown[clear] > 0.99e-3)


def test_one_place_at_a_time_gives_what_all_at_once_give():
    starts, ends = inside_and_out(), inside_and_out()[::-1].copy()
    one = jax.jit(lambda a, b: (surface_distances(WORLD, a), swept_distances(WORLD, a, b, 0.1)))
    together = distances(WORLD, starts), swept(WORLD, starts, ends, 0.1)
    for row in range(0, len(starts), 50):
        for alone, every in zip(one(starts[row], ends[row]), together, strict=True):
            np.testing.assert_allclose(alone, every[row], atol=ROUNDING)
