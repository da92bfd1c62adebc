"""Rays against solids: marched in float64, their gradients from the normals where they hit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.physics.obstacles import obstacles_of, ray_distances, ray_hits
from drone_cbf.physics.solids.ground import Ground
from tests.physics.solid_worlds import SHAPES, distances_of, mixed, only

ROUNDING = 5e-5
"""[m]: float32 at coordinates of up to 10 m, divided by the cosine of incidence of rays that do not graze."""
LIMIT = 12.0
WORLD = mixed(5)
RAYS = 300
ORIGINS = np.float32([[0.3, -0.2, 0.9], [3.5, 3.0, 2.0], [-6.0, 0.5, -1.4]])

cast = jax.jit(jax.vmap(lambda world, origin, rays: ray_hits(world, origin, rays, LIMIT), in_axes=(None, 0, None)))


@functools.cache
def directions() -> np.ndarray:
    """Random ones, along the axes of the world, and along the axes of boxes and cylinders."""
    rays = np.random.default_rng(6).normal(size=(RAYS, 3))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    own = np.concatenate(np.asarray(WORLD.boxes.rotation)).reshape(-1, 3)
    heading = np.asarray(WORLD.cylinders.heading)
    axes = np.stack([np.cos(heading), np.sin(heading), 0.0 * heading], -1)
    return np.concatenate([rays, np.eye(3), -np.eye(3), own, axes, -axes]).astype(np.float32)


def marched(distance, origin, rays, steps=400):
    """Sphere tracing: how far each ray gets [m], at most ``LIMIT``, and whether that is settled."""
    origin, rays = np.float64(origin), np.float64(rays)
    way = np.zeros(len(rays))
    for _ in range(steps):
        way = np.minimum(way + np.maximum(distance(origin + way[:, None] * rays), 0.0), LIMIT)
    return way, (way == LIMIT) | (distance(origin + way[:, None] * rays) < 1e-7)


@functools.cache
def truth():
    """Distances (origins, rays, solids) [m], and which are settled: a few that graze a surface are not."""
    solids = distances_of(WORLD)
    found = [[marched(distance, origin, directions()) for distance in solids] for origin in ORIGINS]
    way, settled = (np.array([[one[part] for one in row] for row in found]).swapaxes(1, 2) for part in (0, 1))
    return way, settled.all(-1)


def test_rays_end_at_the_nearest_surface_and_know_which_it_is():
    ways, settled = truth()
    found, index = (np.asarray(x) for x in cast(WORLD, ORIGINS, directions()))
    assert settled.mean() > 0.99
    np.testing.assert_allclose(found[settled], ways.min(-1)[settled], atol=ROUNDING)
    nearest = np.where(ways.min(-1) < LIMIT, ways.argmin(-1), -1)
    second = np.sort(ways, axis=-1)[..., 1]
    clear = settled & ((second - ways.min(-1) > 1e-3) | (ways.min(-1) == LIMIT))
    assert clear.mean() > 0.95 and len(np.unique(nearest[clear])) >= 11, "nearly every solid is hit, and none"
    np.testing.assert_array_equal(index[clear], nearest[clear])


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_alone_is_hit_where_it_is(shape):
    world = only(shape, WORLD)
    first = {"capsules": 0, "boxes": 4, "cylinders": 8, "ground": 12}[shape]
    ways, settled = truth()
    ours = jax.jit(jax.vmap(lambda origin: ray_distances(world, origin, jnp.asarray(directions()), LIMIT)))(ORIGINS)
    expected = ways[..., first : first + world.active.shape[0]].min(-1)
    assert 0.02 < (expected < LIMIT).mean() < 0.9
    np.testing.assert_allclose(np.asarray(ours)[settled], expected[settled], atol=ROUNDING)


def test_from_inside_a_solid_every_ray_has_length_zero():
    centres = [np.asarray(solids.centre) for solids in (WORLD.capsules, WORLD.boxes, WORLD.cylinders)]
    inside = np.concatenate([*centres, [[0.0, 0.0, -3.0]]])
    found, index = cast(WORLD, inside, directions())
    assert not np.any(found) and np.all(index >= 0)


def test_what_is_unused_or_beyond_the_limit_or_behind_is_not_hit():
    distance, index = cast(WORLD.only(jnp.zeros(13, bool)), ORIGINS, directions())
    assert np.all(distance == LIMIT) and np.all(index == -1)
    empty, _ = ray_hits(obstacles_of(), jnp.asarray(ORIGINS[0]), jnp.asarray(directions()), LIMIT)
    assert np.all(empty == LIMIT)
    near = jax.jit(jax.vmap(lambda x: ray_distances(WORLD, x, jnp.asarray(directions()), 1.0)))(ORIGINS)
    far, _ = cast(WORLD, ORIGINS, directions())
    np.testing.assert_allclose(near, np.minimum(far, 1.0), atol=ROUNDING)
    ground = obstacles_of(ground=Ground(height=jnp.zeros(1), active=jnp.ones(1, bool)))
    ways = ray_distances(ground, jnp.array([0.0, 0.0, 2.0]), jnp.array([[0.0, 0.0, -1.0], [0.6, 0.0, 0.8]]), LIMIT)
    assert ways.tolist() == [2.0, LIMIT]


def test_the_gradient_is_that_of_the_plane_that_touches_the_surface_where_the_ray_ends():
    """A distance t along d to a surface with normal n changes by -n (do + t dd) / (n d); d stays of unit length."""
    ways, settled = truth()
    rays, origin = np.float64(directions()), ORIGINS[0]

    def length(origin, ray):
        return ray_distances(WORLD, origin, (ray / jnp.linalg.norm(ray))[None], LIMIT)[0]

    slope = jax.jit(jax.vmap(jax.grad(length, (0, 1)), in_axes=(None, 0)))(origin, directions())
    step, checked = 1e-5, 0
    for index, distance in enumerate(distances_of(WORLD)):
        first = settled[0] & (ways[0].argmin(-1) == index) & (ways[0].min(-1) < LIMIT)
        way = ways[0, first, index][:, None]
        hit = origin + way * rays[first]
        normal = np.stack([(distance(hit + e) - distance(hit - e)) / (2 * step) for e in step * np.eye(3)], -1)
        cosine = np.sum(normal * rays[first], -1, keepdims=True)
        smooth = (np.abs(np.linalg.norm(normal, axis=-1) - 1.0) < 1e-4) & (cosine[:, 0] < -0.1)
        expected = -normal / cosine
        np.testing.assert_allclose(np.asarray(slope[0])[first][smooth], expected[smooth], atol=2e-3, rtol=2e-3)
        across = way * (expected - np.sum(expected * rays[first], -1, keepdims=True) * rays[first])
        np.testing.assert_allclose(np.asarray(slope[1])[first][smooth], across[smooth], atol=1e-2, rtol=2e-3)
        checked += smooth.sum()
    assert checked > 100


def test_gradients_are_finite_for_every_ray_from_everywhere():
    """From inside, from surfaces, along faces and axes, and grazing: towards the tangents of round surfaces."""
    places = [*ORIGINS, *np.asarray(WORLD.capsules.centre), *np.asarray(WORLD.boxes.centre), [0.5, 0.5, -1.5]]
    box, cylinder = (jax.tree.map(lambda x: np.float64(x[0]), solids) for solids in (WORLD.boxes, WORLD.cylinders))
    corner = box.centre + box.rotation @ box.half_size
    on_axis = cylinder.centre + 3.0 * np.array([np.cos(cylinder.heading), np.sin(cylinder.heading), 0.0])
    ball = jax.tree.map(lambda x: np.float64(x[0]), WORLD.capsules)
    beside = ball.centre + np.array([ball.radius, 0.0, 3.0])
    places = np.float32([*places, corner, corner + 2.0 * box.rotation[:, 0], on_axis, beside])
    graze = np.random.default_rng(7).normal(size=(40, 3)) * [1e-4, 1e-4, 0.0] - [0.0, 0.0, 1.0]
    rays = np.concatenate([directions(), graze / np.linalg.norm(graze, axis=-1, keepdims=True)]).astype(np.float32)

    def total(world, origin, rays):
        return jnp.sum(ray_distances(world, origin, rays, LIMIT))

    every = jax.jit(jax.vmap(jax.grad(total, (0, 1, 2), allow_int=True), (None, 0, None)))(WORLD, places, rays)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(every) if leaf.dtype == np.float32)
    assert np.abs(every[2]).max() > 0.0


def test_a_ray_alone_is_as_long_as_among_others():
    together, _ = cast(WORLD, ORIGINS, directions())
    one = jax.jit(lambda origin, ray: ray_distances(WORLD, origin, ray[None], LIMIT)[0])
    for row in range(0, RAYS, 30):
        np.testing.assert_allclose(one(ORIGINS[1], directions()[row]), together[1, row], atol=ROUNDING)
