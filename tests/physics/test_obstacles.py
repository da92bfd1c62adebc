"""Capsules against brute force: sampled surfaces, sampled axes, and densely sampled flights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.physics.obstacles import FAR, nearest_surface_points, obstacles_of, surface_distances, swept_distances
from drone_cbf.physics.solids.capsules import Capsules

ROUNDING = 1e-5
"""[m]: float32 at coordinates of up to 10 m, through a square root."""
COUNT = 12
PLACES = 200

nearest = jax.jit(jax.vmap(nearest_surface_points, in_axes=(None, 0)))
distances = jax.jit(jax.vmap(surface_distances, in_axes=(None, 0)))


@functools.partial(jax.jit, static_argnums=3)
def swept(obstacles, start, end, duration):
    return jax.vmap(lambda a, b: swept_distances(obstacles, a, b, duration))(start, end)


@pytest.fixture(scope="module")
def obstacles():
    """Spheres, pillars and long trunks, all moving."""
    rng = np.random.default_rng(0)
    capsules = Capsules(
        centre=jnp.asarray(rng.uniform(-2.0, 2.0, (COUNT, 3)), jnp.float32),
        radius=jnp.asarray(rng.uniform(0.1, 0.8, COUNT), jnp.float32),
        half_height=jnp.asarray(np.repeat([0.0, 0.7, 30.0], COUNT // 3), jnp.float32),
        velocity=jnp.asarray(rng.normal(size=(COUNT, 3)), jnp.float32),
        active=jnp.ones(COUNT, bool),
    )
    return obstacles_of(capsules)


@pytest.fixture(scope="module")
def places():
    return np.random.default_rng(1).uniform(-3.0, 3.0, (PLACES, 3)).astype(np.float32)


def axis_distance(points, centre, half_height) -> np.ndarray:
    """Distance of (..., 3) points to a vertical segment, in float64."""
    offset = points - centre
    beyond = np.maximum(np.abs(offset[..., 2]) - half_height, 0.0)
    return np.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2 + beyond**2)


def as_numpy(obstacles):
    return {
        name: np.asarray(getattr(obstacles.capsules, name), np.float64) for name in ("centre", "radius", "half_height")
    }


def sampled_surface(centre, radius, half_height, count=20_000) -> np.ndarray:
    """Points evenly over a capsule: caps from a Fibonacci sphere cut at its equator, a wall of rings between."""
    index = np.arange(count) + 0.5
    height, angle = 1.0 - 2.0 * index / count, np.pi * (1.0 + 5.0**0.5) * index
    flat = np.sqrt(1.0 - height**2)
    sphere = np.stack([flat * np.cos(angle), flat * np.sin(angle), height], -1) * radius
    caps = sphere + np.where(sphere[:, 2:] >= 0.0, half_height, -half_height) * np.array([0.0, 0.0, 1.0])
    turn, level = np.meshgrid(np.linspace(0, 2 * np.pi, 300), np.linspace(-half_height, half_height, 100))
    wall = np.stack([radius * np.cos(turn), radius * np.sin(turn), level], -1).reshape(-1, 3)
    return centre + np.concatenate([caps, wall])


def test_the_nearest_point_and_distance_match_a_sampled_surface(obstacles, places):
    points, measured = nearest(obstacles, jnp.asarray(places)), distances(obstacles, jnp.asarray(places))
    shapes = as_numpy(obstacles)
    for index in (0, 4):  # spheres and short pillars: a trunk of 60 m cannot be sampled finely
        centre, radius, half = (shapes[name][index] for name in ("centre", "radius", "half_height"))
        surface = sampled_surface(centre, radius, half)
        outside = np.flatnonzero(np.asarray(measured)[:, index] > 0.05)[:40]
        gaps = np.linalg.norm(places[outside, None].astype(np.float64) - surface, axis=-1)
        # No point of the surface is h = 0.02 m from a sample; one h beside the nearest is h^2 / (2 s) farther, at most.
        excess = gaps.min(1) - np.asarray(measured)[outside, index]
        assert np.all(excess >= -ROUNDING) and np.all(excess <= 0.02**2 / (2.0 * 0.05))
        apart = np.linalg.norm(np.asarray(points)[outside, index] - surface[gaps.argmin(1)], axis=-1)
        assert apart.max() < 0.05


def test_distances_are_signed_and_exact_inside_and_out(obstacles, places):
    shapes = as_numpy(obstacles)
    expected = axis_distance(places[:, None].astype(np.float64), shapes["centre"], shapes["half_height"])
    expected = expected - shapes["radius"]
    assert (expected < 0.0).sum() > 20
    np.testing.assert_allclose(distances(obstacles, jnp.asarray(places)), expected, atol=ROUNDING)


def test_the_nearest_point_lies_on_the_surface_at_the_distance_reported(obstacles, places):
    points, shapes = np.asarray(nearest(obstacles, jnp.asarray(places)), np.float64), as_numpy(obstacles)
    on_surface = axis_distance(points, shapes["centre"], shapes["half_height"]) - shapes["radius"]
    np.testing.assert_allclose(on_surface, 0.0, atol=ROUNDING)
    apart = np.linalg.norm(places[:, None] - points, axis=-1)
    np.testing.assert_allclose(apart, np.abs(distances(obstacles, jnp.asarray(places))), atol=ROUNDING)


def test_the_gradient_of_the_distance_is_the_outward_normal(obstacles, places):
    slopes = jax.jit(jax.vmap(jax.jacobian(lambda x: surface_distances(obstacles, x))))(jnp.asarray(places))
    shapes, step = as_numpy(obstacles), 1e-5

    def truth(x):
        return axis_distance(x[:, None], shapes["centre"], shapes["half_height"])

    centre = places.astype(np.float64)
    central = np.stack([(truth(centre + e) - truth(centre - e)) / (2 * step) for e in step * np.eye(3)], -1)
    far = truth(centre) > 0.05  # the direction turns over that length; central differences need it resolved
    np.testing.assert_allclose(np.asarray(slopes)[far], central[far], atol=1e-4)


def test_the_gradient_on_the_axis_is_finite(obstacles):
    gradient = jax.jit(jax.jacobian(lambda x: surface_distances(obstacles, x)))(obstacles.capsules.centre[0])
    assert np.all(np.isfinite(gradient)) and np.all(np.asarray(gradient)[0] == 0.0)


def test_the_swept_distance_matches_a_densely_sampled_motion_among_moving_obstacles(obstacles, places):
    start, end, duration = places[:100], places[100:], 0.7
    ours = np.asarray(swept(obstacles, jnp.asarray(start), jnp.asarray(end), duration))
    fractions = np.linspace(0.0, 1.0, 4001)[:, None, None]
    shapes, velocity = as_numpy(obstacles), np.asarray(obstacles.velocity, np.float64)
    centre = shapes["centre"] + fractions * duration * velocity
    for index in range(100):
        point = start[index] + fractions * (end[index] - start[index]).astype(np.float64)
        sampled = (axis_distance(point, centre, shapes["half_height"]) - shapes["radius"]).min(0)
        # Between samples the distance changes by at most the relative way to the nearer sample.
        way = np.linalg.norm(end[index] - start[index] - duration * velocity, axis=-1)
        assert np.all(ours[index] <= sampled + ROUNDING)
        assert np.all(ours[index] >= sampled - way / 4000 / 2 - ROUNDING)


def test_a_collision_between_two_samples_is_found():
    """Flying through a thin sphere, and a pillar passing through a hovering drone."""
    small = Capsules(
        centre=jnp.array([[0.5, 0.02, 0.0], [0.0, -1.0, 0.3]]),
        radius=jnp.array([0.05, 0.05]),
        half_height=jnp.array([0.0, 0.5]),
        velocity=jnp.array([[0.0, 0.0, 0.0], [0.0, 40.0, 0.0]]),
        active=jnp.ones(2, bool),
    )
    small = obstacles_of(small)
    start, end = jnp.array([[0.0, 0.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
    assert np.all(np.asarray(distances(small, start))[:, 0] > 0.4)
    assert np.all(np.asarray(distances(small, end))[:, 0] > 0.4)
    assert swept(small, start, end, 0.05)[0, 0] == pytest.approx(0.02 - 0.05, abs=ROUNDING)
    assert swept(small, start, start, 0.05)[0, 1] == pytest.approx(-0.05, abs=ROUNDING)


def test_standing_still_the_swept_distance_is_the_distance(obstacles, places):
    still = obstacles_of(obstacles.capsules.replace(velocity=jnp.zeros((COUNT, 3))))
    ours = swept(still, jnp.asarray(places), jnp.asarray(places), 0.05)
    np.testing.assert_allclose(ours, distances(still, jnp.asarray(places)), atol=ROUNDING)


def test_obstacles_move_with_their_velocity(obstacles):
    before, after = obstacles.capsules, obstacles.at(0.5).capsules
    np.testing.assert_allclose(after.centre, before.centre + 0.5 * before.velocity, atol=ROUNDING)


def test_a_masked_obstacle_is_far_whatever_it_is(obstacles, places):
    masked = obstacles.only(jnp.arange(COUNT) % 2 == 0)
    odd = np.arange(1, COUNT, 2)
    here = jnp.asarray(places)
    assert np.all(np.asarray(distances(masked, here))[:, odd] == FAR)
    assert np.all(np.asarray(swept(masked, here, here[::-1], 0.1))[:, odd] == FAR)
    away = np.asarray(nearest(masked, here))[:, odd] - places[:, None]
    np.testing.assert_allclose(np.linalg.norm(away, axis=-1), FAR, rtol=1e-6)
    even = odd - 1
    np.testing.assert_array_equal(np.asarray(distances(masked, here))[:, even], distances(obstacles, here)[:, even])


@pytest.mark.parametrize("height", [0.0, 0.3])
def test_the_jacobian_of_a_spheres_nearest_point_is_that_of_the_sphere_at_every_height(height):
    """radius / distance times the projection off the direction; level with the centre, a clip's two limits tie."""
    ball = Capsules(
        centre=jnp.zeros((1, 3)),
        radius=jnp.array([0.3]),
        half_height=jnp.zeros(1),
        velocity=jnp.zeros((1, 3)),
        active=jnp.ones(1, bool),
    )
    place = np.array([0.8, -0.5, height])
    direction = place / np.linalg.norm(place)
    expected = 0.3 / np.linalg.norm(place) * (np.eye(3) - np.outer(direction, direction))
    ours = jax.jacobian(lambda p: nearest_surface_points(obstacles_of(ball), p)[0])(jnp.asarray(place, jnp.float32))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
