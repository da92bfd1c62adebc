"""The memory of points: nearest per cell by brute force, what is forgotten when, and what is on the way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.directions import CELLS, cell_of
from drone_cbf.perception.lidar import make_lidar_view
from drone_cbf.perception.point_map import (
    PointMap,
    empty_point_map,
    make_gathering,
    nearest_in_cells,
    spreads,
    way_blocked,
)
from drone_cbf.perception.readings import OwnMotion, Reading

DT = 0.05
CONFIG = SensorConfig(kind="lidar", lidar_field=(-30.0, 30.0), map_time=0.2, map_memory=1.0, map_doubt=0.1)
PLACE = jnp.array([0.4, -0.3, 1.1])
NEAREST = jax.jit(nearest_in_cells)
GATHER = jax.jit(make_gathering(CONFIG, DT, make_lidar_view(CONFIG)))


def points_at(points, known=None, velocity=None) -> PointMap:
    points = jnp.asarray(points, jnp.float32)
    count = points.shape[0]
    zero = jnp.zeros(count, jnp.float32)
    still = jnp.zeros((count, 3), jnp.float32)
    moving = still if velocity is None else still + jnp.asarray(velocity, jnp.float32)
    every = jnp.ones(count, bool) if known is None else jnp.asarray(known)
    return PointMap(points=points, velocity=moving, spread=zero, age=zero, known=every)


def reading_of(points, hit=None, own=(0.0, 0.0, 0.0), velocity=0.0) -> Reading:
    points = jnp.asarray(points, jnp.float32)
    count = points.shape[0]
    return Reading(
        own=OwnMotion(position=jnp.asarray(own, jnp.float32), velocity=jnp.zeros(3, jnp.float32)),
        noise=jnp.float32(0.02),
        points=points,
        hit=jnp.ones(count, bool) if hit is None else jnp.asarray(hit),
        velocity=jnp.full((count, 3), velocity, jnp.float32),
        spread=jnp.full(count, 0.02, jnp.float32),
    )


@functools.cache
def cloud(count=700, seed=0):
    rng = np.random.default_rng(seed)
    points = np.float32(np.asarray(PLACE) + rng.uniform(0.3, 6.0, (count, 1)) * rng.normal(size=(count, 3)))
    return points, rng.uniform(size=count) < 0.8


def test_of_every_cell_the_nearest_known_point_is_kept_with_all_that_is_known_of_it():
    points, known = cloud()
    given = points_at(points, known).replace(spread=jnp.arange(700.0), age=700.0 - jnp.arange(700.0))
    kept = jax.device_get(NEAREST(given, PLACE))
    cells = np.asarray(cell_of(jnp.asarray(points) - PLACE))
    distance = np.where(known, np.linalg.norm(np.float64(points) - np.asarray(PLACE), axis=-1), np.inf)
    for cell in range(CELLS):
        inside = np.flatnonzero((cells == cell) & known)
        assert bool(kept.known[cell]) == bool(len(inside))
        if len(inside):
            best = inside[np.argmin(distance[inside])]
            np.testing.assert_array_equal(kept.points[cell], points[best])
            assert kept.spread[cell] == best and kept.age[cell] == 700 - best
    assert 0.5 < np.asarray(kept.known).mean() < 1.0


def test_order_duplicates_and_farther_points_change_nothing():
    points, known = cloud()
    kept = NEAREST(points_at(points, known), PLACE)
    order = np.random.default_rng(1).permutation(len(points))
    shuffled = NEAREST(points_at(points[order], known[order]), PLACE)
    doubled = NEAREST(points_at(np.concatenate([points, points[order]]), np.concatenate([known, known[order]])), PLACE)
    behind = np.asarray(PLACE) + 1.5 * (points - np.asarray(PLACE))
    dense = NEAREST(points_at(np.concatenate([behind, points]), np.concatenate([known, known])), PLACE)
    for other in (shuffled, doubled, dense):
        np.testing.assert_array_equal(other.known, kept.known)
        found = np.asarray(kept.known)
        np.testing.assert_array_equal(np.asarray(other.points)[found], np.asarray(kept.points)[found])


def test_without_a_point_nothing_is_known():
    assert not np.asarray(NEAREST(points_at(np.zeros((3, 3)), [False] * 3), PLACE).known).any()
    assert not np.asarray(NEAREST(empty_point_map(), PLACE).known).any()


def remembered(belief, steps, reading, position=(0.0, 0.0, 0.0)):
    """The map after so many such readings."""
    for _ in range(steps):
        belief = NEAREST(GATHER(belief, reading, jnp.asarray(position, jnp.float32)), jnp.zeros(3))
    return belief


@pytest.mark.parametrize(("point", "steps"), [((2.0, 0.1, 0.2), 4), ((0.1, 0.2, 2.0), 20)])
def test_points_in_view_are_forgotten_soon_and_others_after_the_memory(point, steps):
    """4 steps are ``map_time``, 20 ``map_memory``; the second point is above the field of view."""
    blind = reading_of([[9.0, 0.0, 0.0]], [False])
    belief = remembered(empty_point_map(), 1, reading_of([point]))
    assert np.asarray(belief.known).sum() == 1
    last = remembered(belief, steps, blind)
    assert np.asarray(last.known).sum() == 1 and not np.asarray(remembered(last, 1, blind).known).any()
    found = np.asarray(last.known)
    np.testing.assert_allclose(np.asarray(last.age)[found], steps * DT, rtol=1e-5)
    doubt = np.hypot(0.02, CONFIG.map_doubt * steps * DT)
    np.testing.assert_allclose(np.asarray(spreads(last, CONFIG))[found], doubt, rtol=1e-5)
    again = remembered(last, 1, reading_of([point]))
    assert np.asarray(again.age)[np.asarray(again.known)].max() == 0.0, "seen again, it is new"


def test_points_are_placed_relative_to_the_estimated_position_and_rays_without_a_hit_by_nothing():
    measured, estimated = np.array([0.3, 0.0, 0.0]), np.array([0.1, 0.2, 0.0])
    fresh = GATHER(
        empty_point_map(), reading_of([[2.0, 1.0, 0.0]] * 2, [True, False], measured), jnp.asarray(estimated)
    )
    np.testing.assert_allclose(fresh.points[0], np.array([1.8, 1.2, 0.0]), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(fresh.known), [True, False, *[False] * CELLS])


def test_a_moving_point_is_remembered_where_it_has_gone():
    belief = remembered(empty_point_map(), 1, reading_of([[1.0, 0.5, 0.1]], velocity=2.0))
    later = GATHER(belief, reading_of([[9.0, 0.0, 0.0]], [False]), jnp.zeros(3))
    found = np.asarray(later.known)
    np.testing.assert_allclose(np.asarray(later.points)[found], [[1.1, 0.6, 0.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.7, 0.0, 0.0), 0.3),
        ((0.7, 0.08, 0.0), 0.3),
        ((0.7, 0.13, 0.0), -1.0),
        ((1.2, 0.0, 0.0), -1.0),
        ((0.01, 0.0, 0.0), 0.99),
        ((-0.08, 0.0, 0.0), -1.0),
    ],
)
def test_a_point_is_on_the_way_where_the_hull_meets_it(point, expected):
    """The way leads from the origin 1 m along x; the hull has a radius of 0.12 m."""
    way = jnp.zeros(3), jnp.array([1.0, 0.0, 0.0])
    assert way_blocked(points_at([point, (5.0, 0.0, 0.0)]), *way, 0.12, 0.12) == pytest.approx(expected, abs=1e-5)
    assert way_blocked(points_at([point], [False]), *way, 0.12, 0.12) == -1.0


def test_the_nearest_point_has_a_surface_across_the_line_to_it_which_blocks_the_way_beside_it():
    """A wall at 45 degrees to the way, whose point is 0.2 m beside it: the hull touches the wall, not the point."""
    way, wall = (jnp.zeros(3), jnp.array([1.0, 0.0, 0.0])), points_at([(0.2, 0.2, 0.0)])
    assert way_blocked(wall, *way, 0.12, 0.22) == pytest.approx(0.8, abs=1e-5)
    assert way_blocked(wall, *way, 0.12, 0.12) == -1.0


def test_the_first_point_on_the_way_counts_and_uncertain_ones_only_well_inside_the_hull():
    way = jnp.zeros(3), jnp.array([1.0, 0.0, 0.0])
    several = points_at([(0.7, 0.0, 0.0), (0.4, 0.0, 0.05), (0.9, 0.0, 0.0)])
    assert way_blocked(several, *way, 0.12, 0.12) == pytest.approx(0.6, abs=1e-5)
    beside = points_at([(0.5, 0.1, 0.0)])
    assert way_blocked(beside, *way, 0.12, 0.12) == pytest.approx(0.5, abs=1e-5)
    assert way_blocked(beside.replace(spread=jnp.array([0.02])), *way, 0.12, 0.12) == -1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_way_is_blocked_by_what_lies_near_a_dense_sampling_of_it(seed):
    rng = np.random.default_rng(seed)
    start, end = rng.normal(size=(2, 3))
    points = np.float32(rng.uniform(-1.5, 1.5, (400, 3)))
    sampled = start + np.linspace(0.0, 1.0, 4001)[:, None] * (end - start)
    near = np.linalg.norm(points[:, None] - sampled, axis=-1).min(-1)
    ahead = (points - start) @ (end - start) / np.linalg.norm(end - start)
    met = (near < 0.3) & (ahead > 0.0) & (ahead < np.linalg.norm(end - start))
    assert np.abs(near - 0.3).min() > 1e-4 and met.any()
    expected = np.max(np.linalg.norm(end - start) - ahead[met])
    arguments = (jnp.asarray(x, jnp.float32) for x in (start, end))
    # A safe radius of zero: surfaces through the nearest point are another test's.
    assert way_blocked(points_at(points), *arguments, 0.3, 0.0) == pytest.approx(max(expected, 0.0), abs=1e-4)


def test_standing_still_only_a_point_at_the_very_place_is_on_the_way():
    here = jnp.zeros(3)
    assert way_blocked(points_at([(0.01, 0.0, 0.0)]), here, here, 0.12, 0.22) == pytest.approx(0.0, abs=0.02)
    assert way_blocked(points_at([(0.05, 0.0, 0.0)]), here, here, 0.12, 0.22) == -1.0
