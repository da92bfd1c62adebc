"""Distances against sampled surfaces, rays against marching along them by signed distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.simulator.patterns import even
from tests.simulator.solids import Boxes, Rounds, Solids

COUNT = 200
RAYS = even(128, np.random.default_rng(0))
REACH = 8.0
MARCHED = 1e-6
"""[m]: marching stops within 1e-9 m of a surface, which a grazing ray reaches this much later."""


def solids(kind: str) -> Boxes | Rounds:
    rng = np.random.default_rng(0)
    centre = rng.uniform(-2.0, 2.0, (COUNT, 3))
    if kind == "boxes":
        axes = Rotation.random(COUNT, rng).as_matrix()
        axes[:30] = np.eye(3)  # rays along an axis divide by zero
        return Boxes(centre=centre, half=rng.uniform(0.1, 1.5, (COUNT, 3)), axes=axes)
    span = np.where(np.arange(COUNT)[:, None] % 2, (1.0, 1.0, 1.0), (1.0, 1.0, 0.0))
    return Rounds(centre=centre, radius=rng.uniform(0.1, 1.0, COUNT), span=span)


def marched(solid: Solids, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (n, r) from ``origin`` (n, 3) to a surface or past ``REACH``, and whether marching came to either."""
    travelled = np.zeros((len(origin), len(rays)))
    for _ in range(200):
        distance = np.maximum(solid.distances(origin[:, None] + travelled[..., None] * rays), 0.0)
        travelled += np.where(travelled < REACH, distance, 0.0)
    return travelled, (distance < 1e-9) | (travelled > REACH)


@pytest.mark.parametrize("kind", ["boxes", "rounds"])
def test_rays_end_where_marching_along_them_meets_a_surface(kind: str) -> None:
    solid = solids(kind)
    origin = np.random.default_rng(1).uniform(-2.0, 2.0, (COUNT, 3))
    rays = np.concatenate([RAYS, np.eye(3), -np.eye(3)])
    actual = solid.hits(origin, rays)
    travelled, finished = marched(solid, origin, rays)
    assert finished.mean() > 0.99  # marching along a surface does not end
    met = (travelled < REACH)[finished]
    assert met.sum() > 1000
    np.testing.assert_array_equal(actual[finished] < REACH, met)
    np.testing.assert_allclose(actual[finished][met], travelled[finished][met], atol=MARCHED)


def test_the_distance_to_a_box_is_that_to_its_nearest_sampled_surface_point_and_negative_inside() -> None:
    rng = np.random.default_rng(2)
    boxes, points = solids("boxes"), rng.uniform(-3.0, 3.0, (200, 3))
    assert isinstance(boxes, Boxes)
    box = boxes.rows(100)
    points[:50] = box.centre + (rng.uniform(-1.0, 1.0, (50, 3)) * box.half) @ box.axes.T
    grid = np.linspace(-1.0, 1.0, 61)
    across, up = (axis.ravel() for axis in np.meshgrid(grid, grid))
    faces = [np.insert(np.stack([across, up], -1), axis, side, axis=1) for axis in range(3) for side in (-1.0, 1.0)]
    surface = box.centre + (np.concatenate(faces) * box.half) @ box.axes.T
    nearest = np.linalg.norm(points[:, None] - surface, axis=-1).min(1)
    spacing = 2.0 / 60.0 * box.half.max()
    assert (box.distances(points)[:50] < 0.0).all()
    np.testing.assert_allclose(np.abs(box.distances(points)), nearest, atol=spacing)


def test_a_sphere_and_a_pillar_differ_above_their_centre() -> None:
    rounds = Rounds(centre=np.zeros((2, 3)), radius=np.full(2, 0.5), span=np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]))
    place = np.array([[3.0, 0.0, 4.0]])
    np.testing.assert_allclose(rounds.distances(place[None])[:, 0], [4.5, 2.5])


@pytest.mark.parametrize("kind", ["boxes", "rounds"])
def test_from_inside_a_solid_every_ray_ends_at_once(kind: str) -> None:
    solid = solids(kind)
    assert (solid.hits(solid.centre, RAYS) == 0.0).all()
