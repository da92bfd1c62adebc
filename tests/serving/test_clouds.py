from __future__ import annotations

import numpy as np
import pytest

from drone_cbf.serving.clouds import fitted_cloud, nearest_by_direction
from drone_cbf.serving.observations import Request, check_observations

SIZES = (8, 486)
CELL = np.deg2rad(20.0)  # Widest angle within one of 9 by 9 cells on a face: 2 sqrt(2) / 9 at its middle, as an angle


def request(points: np.ndarray, mask: np.ndarray | None = None, position=(0.0, 0.0, 0.0), **fields) -> Request:
    """One observation of ``points`` (n, 3) relative to the position."""
    place = np.asarray(position)
    mask = np.ones(len(points), bool) if mask is None else mask
    given = {"position": place[None], "velocity": np.zeros((1, 3)), "goal": place[None], "mask": mask[None]}
    return check_observations(given | {"points": (points + place)[None], **fields}, 0)


def kept(points: np.ndarray, **fields) -> np.ndarray:
    """The points that stay, sorted."""
    cloud = fitted_cloud(request(points, **fields), np.zeros((1, 3)), SIZES)
    seen = cloud.points[cloud.mask]
    return seen[np.lexsort(seen.T)]


def surroundings(count: int, seed: int = 0) -> np.ndarray:
    """Points in all directions at 1 to 20 m."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(count, 3))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(1.0, 20.0, (count, 1))


def test_a_cloud_that_fits_is_kept_as_it_is_in_the_smallest_size_that_holds_it() -> None:
    points, origin = surroundings(5), np.array([[1.0, 2.0, 3.0]])
    spread, mask = np.linspace(0.0, 0.4, 5), np.array([True, False, True, True, True])
    given = request(points, mask, point_spread=spread[None], point_velocities=points[None])
    cloud = fitted_cloud(given, origin, SIZES)
    assert cloud.points.shape == (1, 8, 3) and cloud.points.dtype == np.float32
    np.testing.assert_allclose(cloud.points[0, :5], points - origin, rtol=1e-6)
    np.testing.assert_array_equal(cloud.mask[0], [*mask, False, False, False])
    np.testing.assert_allclose(cloud.spread[0, :5], spread, rtol=1e-6)
    np.testing.assert_allclose(cloud.velocities[0, :5], points, rtol=1e-6)
    assert fitted_cloud(request(surroundings(9)), origin, SIZES).points.shape == (1, 486, 3)
    assert not fitted_cloud(request(points[:0]), origin, SIZES).mask.any()


@pytest.mark.parametrize("count", [1000, 40_000])
def test_every_point_that_goes_has_a_nearer_one_in_nearly_its_direction(count: int) -> None:
    """Compared with all pairs in float64."""
    points = surroundings(count)
    left = kept(points).astype(np.float64)
    assert 400 <= len(left) <= 486
    some = points[:500]
    cosine = (some @ left.T) / np.linalg.norm(some, axis=1)[:, None] / np.linalg.norm(left, axis=1)
    nearer = np.linalg.norm(left, axis=1) <= np.linalg.norm(some, axis=1)[:, None] + 1e-5
    assert (nearer & (cosine > np.cos(CELL))).any(axis=1).all()
    nearest = points[np.argmin(np.linalg.norm(points, axis=1))]
    assert np.linalg.norm(left - nearest, axis=1).min() < 1e-6


def test_density_order_and_repetition_of_points_change_nothing() -> None:
    points = surroundings(2000)
    dense = np.concatenate([points, np.repeat(points[:20], 3000, axis=0)])
    np.testing.assert_array_equal(kept(points), kept(np.random.default_rng(1).permutation(dense)))


def test_a_camera_whose_points_lie_in_few_directions_gets_finer_cells() -> None:
    angle, height = (grid.ravel() for grid in np.meshgrid(np.linspace(-0.7, 0.7, 64), np.linspace(-0.5, 0.5, 48)))
    wall = 3.0 * np.stack([np.ones_like(angle), np.tan(angle), np.tan(height)], axis=1)
    assert len(kept(wall)) > 1.5 * 9 * 9


def test_what_is_masked_out_neither_stays_nor_hides_a_point() -> None:
    points = surroundings(3000)
    mask = np.arange(6000) % 2 == 0
    mixed = np.full((6000, 3), np.nan)
    mixed[mask], mixed[~mask] = points, 0.01 * points
    mixed[1] = np.nan
    np.testing.assert_array_equal(kept(mixed, mask=mask), kept(points))


def test_the_drone_and_not_the_origin_is_where_directions_are_taken_from() -> None:
    points, place = surroundings(5000), (4e5, 5e6, 300.0)
    far = fitted_cloud(request(points, position=place), np.array([place]), SIZES)
    near = far.points[far.mask]
    np.testing.assert_allclose(near[np.lexsort(near.T)], kept(points), atol=1e-5)


def test_a_point_at_the_drone_and_points_on_edges_of_the_cube_are_kept() -> None:
    corner = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    left = kept(np.concatenate([2.0 * surroundings(2000), corner]))
    assert (np.linalg.norm(left, axis=1) == 0.0).sum() == 1
    assert np.linalg.norm(left, axis=1).min() == 0.0


def test_a_doubtful_point_counts_as_nearer_and_an_approaching_one_stays_beside_the_nearest() -> None:
    offset = np.tile(np.array([[5.0, 0.0, 0.0]], np.float32), (3, 1)) + np.float32([[0.0], [0.1], [0.5]]) * [1, 0, 0]
    offset = offset.astype(np.float32)
    still = np.zeros((3, 3), np.float32)
    towards = still + np.float32([[0.0], [0.0], [-8.0]]) * np.float32([1, 0, 0])
    spread = np.float32([0.0, 0.2, 0.0])
    assert list(nearest_by_direction(offset, velocity=still, spread=None, cells=9)) == [0]
    assert list(nearest_by_direction(offset, velocity=still, spread=spread, cells=9)) == [1]
    assert list(nearest_by_direction(offset, velocity=towards, spread=None, cells=9)) == [0, 2]


def test_a_far_point_stays_finite_in_float32_and_on_its_side() -> None:
    points = np.array([[1e300, 0.0, 0.0], [0.0, -1e300, 0.0], [1.0, 1.0, 1.0]])
    for count in (1, 400):
        left = kept(np.tile(points, (count, 1)))
        assert np.isfinite(left).all() and (np.linalg.norm(left, axis=1) < 2.0).any()
        assert left[:, 0].max() > 1e5 and left[:, 1].min() < -1e5
