"""The depth camera against rays in float64, and what it counts as seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig, SystemConfig
from drone_cbf.perception.depth import (
    HALF_HEIGHT,
    HALF_WIDTH,
    DepthErrors,
    draw_depth_errors,
    make_depth_camera,
    make_depth_view,
    pixel_of,
    pixel_rays,
    pooled_depths,
)
from drone_cbf.physics.drone import initial_state
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from tests.perception.worlds import capsules

CONFIG = SensorConfig(kind="depth", range=9.0)
RANGE = CONFIG.range
PLACE, YAW = np.array([0.3, -0.2, 1.1]), 0.8
SYSTEM = SystemConfig(sensor=CONFIG)
EXACT = DepthErrors(position=jnp.zeros(3), velocity=jnp.zeros(3), ranges=jnp.zeros(192), image=jnp.zeros(192))
AHEAD, LEFT = np.array([np.cos(YAW), np.sin(YAW), 0.0]), np.array([-np.sin(YAW), np.cos(YAW), 0.0])
UP = np.array([0.0, 0.0, 1.0])


def at(depth, left=0.0, up=0.0):
    """World place of camera coordinates [m]."""
    return PLACE + depth * AHEAD + left * LEFT + up * UP


def look(obstacles, errors=EXACT, config=CONFIG, noise=0.0):
    state = initial_state(jnp.asarray(PLACE, jnp.float32), jnp.ones(3), SYSTEM.physics)
    state = state.replace(yaw=jnp.float32(YAW))
    read = make_depth_camera(config)
    return read(obstacles, state, state.position, jnp.int32(0), errors, jnp.float32(noise))


def true_depths(centres, radii, width=32, height=24):
    """(height, width) depths of balls in float64, pixel by pixel from the top left; RANGE without one."""
    depths = np.full((height, width), RANGE)
    for row in range(height):
        for column in range(width):
            ray = AHEAD + HALF_WIDTH * (1.0 - (2 * column + 1) / width) * LEFT
            ray = ray + HALF_HEIGHT * (1.0 - (2 * row + 1) / height) * UP
            for centre, radius in zip(centres, radii, strict=True):
                away = PLACE - centre
                a, b, c = ray @ ray, ray @ away, away @ away - radius**2
                if b * b > a * c and b < 0.0:
                    depths[row, column] = min(depths[row, column], (-b - np.sqrt(b * b - a * c)) / a)
    return depths


def pooled(depths):
    return depths.reshape(12, 2, 16, 2).min(axis=(1, 3))


def wall(depth, half=20.0):
    """A plane wall at ``depth`` [m] across the view."""
    box = Boxes(
        centre=jnp.asarray(at(depth + 0.5), jnp.float32)[None],
        half_size=jnp.array([[0.5, half, half]]),
        rotation=jnp.asarray(np.stack([AHEAD, LEFT, UP], -1), jnp.float32)[None],
        velocity=jnp.zeros((1, 3)),
        active=jnp.ones(1, bool),
    )
    return obstacles_of(boxes=box)


def test_the_image_is_the_pooled_inverse_depth_of_every_pixel():
    rng = np.random.default_rng(0)
    centres = np.array([at(*rng.uniform([1.0, -3.0, -2.0], [7.0, 3.0, 2.0])) for _ in range(12)])
    radii = rng.uniform(0.2, 0.9, 12)
    depths = pooled(true_depths(centres, radii))
    reading = look(capsules(centres, radii))
    assert 60 < np.sum(depths < RANGE) < 190
    np.testing.assert_allclose(reading.image, 3.0 / depths - 0.6, atol=2e-4)
    np.testing.assert_array_equal(np.reshape(reading.hit, (12, 16)), depths < RANGE)
    np.testing.assert_allclose(np.reshape(pooled_depths(reading, CONFIG), (12, 16)), depths, atol=2e-4)


def test_points_lie_on_the_surfaces_within_their_pixels():
    centres, radii = np.array([at(3.0, 0.4, -0.3), at(5.0, -1.5, 1.0)]), np.array([0.6, 0.9])
    reading = look(capsules(centres, radii))
    points = np.asarray(reading.points, np.float64)[np.asarray(reading.hit)]
    apart = np.abs(np.linalg.norm(points[:, None] - centres, axis=-1) - radii).min(axis=1)
    assert len(points) > 20 and apart.max() < 1e-4
    camera = np.stack([(points - PLACE) @ axis for axis in (AHEAD, LEFT, UP)], -1)
    pixels, inside = pixel_of(jnp.asarray(camera, jnp.float32))
    np.testing.assert_array_equal(pixels, np.flatnonzero(reading.hit))
    assert np.all(inside)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_every_ray_falls_into_its_pooled_pixel(factor):
    rays = pixel_rays(factor)
    pixels, inside = pixel_of(jnp.asarray(3.0 * rays))
    assert np.all(inside) and np.all(np.asarray(pixels) == np.arange(192)[:, None])
    assert rays[..., 1].max() == pytest.approx(HALF_WIDTH * (1.0 - 1.0 / (16 * factor)))
    assert rays[..., 2].max() == pytest.approx(HALF_HEIGHT * (1.0 - 1.0 / (12 * factor)))


@pytest.mark.parametrize(("side", "seen"), [(0.97, True), (1.03, False), (-0.97, True), (-1.03, False)])
@pytest.mark.parametrize("upright", [False, True])
def test_the_field_of_view_ends_at_its_edges(side, seen, upright):
    depth, radius = 4.0, 0.12
    aside = side * depth * (HALF_HEIGHT if upright else HALF_WIDTH)
    aside += np.sign(aside) * (0.0 if seen else radius)
    place = at(depth, up=aside) if upright else at(depth, left=aside)
    assert bool(np.any(look(capsules([place], radius)).hit)) == seen


@pytest.mark.parametrize(
    ("limit", "place", "depth"), [(9.0, 0.2, 0.3), (9.0, 30.0, 9.0), (40.0, 30.0, 24.0), (40.0, 20.0, 20.0)]
)
def test_depths_are_clipped(limit, place, depth):
    reading = look(wall(place), config=CONFIG.model_copy(update={"range": limit}))
    np.testing.assert_allclose(reading.image, 3.0 / depth - 0.6, rtol=1e-5)
    assert np.all(np.asarray(reading.hit) == (place < min(limit, 24.0)))


def test_image_and_depths_have_errors_of_the_stated_size():
    keys = jax.random.split(jax.random.key(0), 200)
    errors = jax.vmap(lambda key: draw_depth_errors(jnp.float32(0.05), 3, key))(keys)
    count = errors.image.size
    for values, spread in ((errors.image, 0.02), (errors.ranges, 0.05), (errors.position, 0.05)):
        size = np.asarray(values).size
        assert np.std(values) == pytest.approx(spread, rel=4.0 / np.sqrt(2 * size))
        assert abs(np.mean(values)) < 4.0 * spread / np.sqrt(size)
    assert abs(np.corrcoef(np.ravel(errors.image), np.ravel(errors.ranges))[0, 1]) < 4.0 / np.sqrt(count)
    bent = look(wall(4.0), EXACT.replace(ranges=jnp.full(192, 0.25), image=jnp.full(192, 0.01)))
    np.testing.assert_allclose(bent.image, 3.0 / 4.25 - 0.6 + 0.01, rtol=1e-4)
    np.testing.assert_allclose((np.asarray(bent.points) - PLACE) @ AHEAD, 4.25, rtol=1e-5)


def test_no_gradient_reaches_the_image_but_own_motion_has_one():
    read, obstacles = make_depth_camera(CONFIG), capsules([at(3.0)], 0.5)

    def seen(position):
        state = initial_state(position, jnp.zeros(3), SYSTEM.physics).replace(yaw=jnp.float32(YAW))
        reading = read(obstacles, state, position, jnp.int32(0), EXACT, jnp.float32(0.0))
        return jnp.sum(reading.image) + jnp.sum(reading.points), jnp.sum(reading.own.position)

    jacobian = jax.jacrev(seen)(jnp.asarray(PLACE, jnp.float32))
    assert np.all(np.asarray(jacobian[0]) == 0.0) and np.all(np.asarray(jacobian[1]) == 1.0)


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        ((2.0, 0.0, 0.0), True),
        ((2.0, 1.5, 0.0), True),
        ((2.0, 1.7, 0.0), False),
        ((2.0, 0.0, -1.3), False),
        ((4.5, 0.0, 0.0), False),
        ((-2.0, 0.0, 0.0), False),
        ((0.2, 0.0, 0.0), False),
    ],
    ids=["ahead", "aside", "too far aside", "too low", "hidden", "behind", "too near"],
)
def test_only_what_the_camera_would_show_is_in_view(place, seen):
    offset = jnp.asarray(at(*place) - PLACE, jnp.float32)[None]
    assert bool(make_depth_view(CONFIG)(offset, look(wall(4.0)))[0]) == seen


@pytest.mark.parametrize("size", [{"depth_width": 40}, {"depth_width": 64, "depth_height": 24}])
def test_an_image_that_cannot_be_pooled_evenly_is_refused(size):
    with pytest.raises(ValueError, match=r"sensor.depth_width = .*take 16 n by 12 n"):
        SensorConfig(kind="depth", **size)
