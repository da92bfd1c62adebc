from __future__ import annotations

import numpy as np
import pytest

from drone_cbf.serving.clouds import Urgency, fitted_cloud, most_urgent_by_direction
from drone_cbf.serving.observations import Request, check_observations

SIZES = (8, 487)
URGENCY = Urgency(ahead=0.13, reaction_time=0.12, braking=7.0)
CELL = np.deg2rad(
    22.5
)  # Widest angle within one of 22 by 22 cells: 2 sqrt(6) / 22 over 1 / sqrt(3), at a face's middle


def request(points: np.ndarray, mask: np.ndarray | None = None, position=(0.0, 0.0, 0.0), **fields) -> Request:
    """One observation of ``points`` (n, 3) relative to the position."""
    place = np.asarray(position)
    mask = np.ones(len(points), bool) if mask is None else mask
    given = {"position": place[None], "velocity": np.zeros((1, 3)), "goal": place[None], "mask": mask[None]}
    return check_observations(given | {"points": (points + place)[None], **fields}, 0)


def kept(points: np.ndarray, **fields) -> np.ndarray:
    """The points that stay, sorted."""
    cloud = fitted_cloud(request(points, **fields), np.zeros((1, 3)), SIZES, URGENCY)
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
    cloud = fitted_cloud(given, origin, SIZES, URGENCY)
    assert cloud.points.shape == (1, 8, 3) and cloud.points.dtype == np.float32
    np.testing.assert_allclose(cloud.points[0, :5], points - origin, rtol=1e-6)
    np.testing.assert_array_equal(cloud.mask[0], [*mask, False, False, False])
    np.testing.assert_allclose(cloud.spread[0, :5], spread, rtol=1e-6)
    np.testing.assert_allclose(cloud.velocities[0, :5], points, rtol=1e-6)
    assert fitted_cloud(request(surroundings(9)), origin, SIZES, URGENCY).points.shape == (1, 487, 3)
    assert not fitted_cloud(request(points[:0]), origin, SIZES, URGENCY).mask.any()


@pytest.mark.parametrize("count", [1000, 40_000])
def test_every_point_that_goes_has_a_nearer_one_in_nearly_its_direction(count: int) -> None:
    """Compared with all pairs in float64."""
    points = surroundings(count)
    left = kept(points).astype(np.float64)
    assert 400 <= len(left) <= 487
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
    assert len(kept(wall)) > 120


def test_what_is_masked_out_neither_stays_nor_hides_a_point() -> None:
    points = surroundings(3000)
    mask = np.arange(6000) % 2 == 0
    mixed = np.full((6000, 3), np.nan)
    mixed[mask], mixed[~mask] = points, 0.01 * points
    mixed[1] = np.nan
    np.testing.assert_array_equal(kept(mixed, mask=mask), kept(points))


def test_the_drone_and_not_the_origin_is_where_directions_are_taken_from() -> None:
    points, place = surroundings(5000), (4e5, 5e6, 300.0)
    far = fitted_cloud(request(points, position=place), np.array([place]), SIZES, URGENCY)
    near = far.points[far.mask]
    np.testing.assert_allclose(near[np.lexsort(near.T)], kept(points), atol=1e-5)


def test_a_point_at_the_drone_and_points_on_edges_of_cells_are_kept() -> None:
    corner = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    left = kept(np.concatenate([2.0 * surroundings(2000), corner]))
    assert (np.linalg.norm(left, axis=1) == 0.0).sum() == 1
    assert np.linalg.norm(left, axis=1).min() == 0.0


def test_of_points_in_one_direction_the_one_stays_that_leaves_the_least_room() -> None:
    """Room as in the closed form: distance, less the way of reaction and braking, less the spread."""
    offset = np.array([[5.0, 0.0, 0.0], [5.1, 0.0, 0.0], [5.5, 0.0, 0.0]], np.float32)
    still, spread = np.zeros(3, np.float32), np.float32([0.0, 0.2, 0.0])
    assert list(most_urgent_by_direction(list(offset.T), still, None, URGENCY, 22)) == [0]
    assert list(most_urgent_by_direction(list(offset.T), still, spread, URGENCY, 22)) == [1]
    for speed in (1.0, 2.0, 3.0):
        approach = np.float32([[0.0], [0.0], [speed]]) * np.float32([1.0, 0.0, 0.0])
        nearest = 5.5 - 0.12 * speed - speed**2 / 14.0 < 5.0
        assert list(most_urgent_by_direction(list(offset.T), approach, None, URGENCY, 22)) == [2 if nearest else 0]


def test_a_moving_drone_keeps_what_is_most_urgent_where_its_command_acts_and_its_own_nearest_point() -> None:
    """Compared with all points in float64: the same least room in every direction, up to the width of a cell."""
    points, velocity = surroundings(20_000), np.array([4.0, 1.0, 0.0])

    def room(cloud: np.ndarray) -> np.ndarray:
        offset = cloud - 0.13 * velocity
        distance = np.linalg.norm(offset, axis=1)
        closing = np.maximum(offset @ velocity / distance, 0.0)
        return distance - 0.12 * closing - closing**2 / 14.0

    cloud = fitted_cloud(request(points, velocity=velocity[None]), np.zeros((1, 3)), SIZES, URGENCY)
    left = cloud.points[cloud.mask].astype(np.float64)
    assert room(left).min() == pytest.approx(room(points).min(), abs=1e-5)
    nearest = points[np.argmin(np.linalg.norm(points, axis=1))]
    assert np.linalg.norm(left - nearest, axis=1).min() < 1e-6


def test_a_far_point_stays_finite_in_float32_and_on_its_side() -> None:
    points = np.array([[1e300, 0.0, 0.0], [0.0, -1e300, 0.0], [1.0, 1.0, 1.0]])
    for count in (1, 400):
        left = kept(np.tile(points, (count, 1)))
        assert np.isfinite(left).all() and (np.linalg.norm(left, axis=1) < 2.0).any()
        assert left[:, 0].max() > 1e5 and left[:, 1].min() < -1e5
