"""Cuts and outlines of boxes and cylinders, against distances at many points."""

import numpy as np
import pytest

from drone_cbf.reporting.figures import polygons, polyhedra
from drone_cbf.reporting.obstacles import Boxes, Cylinders, Obstacles

from .worlds import distance, turned

TILTED = Boxes(np.array([[0.3, -0.2, 0.1]]), np.array([[1.0, 0.4, 0.7]]), turned(0.6, 0.5)[None], np.ones(1, bool))
BEAM = Cylinders(np.array([[0.3, -0.2, 0.1]]), np.array([0.8]), np.array([1.2]), np.array([0.4]), np.ones(1, bool))
PRISM = 0.4 * (1.0 - np.cos(np.pi / polyhedra.SIDES))  # by this the prism is thinner than the cylinder, at most [m]
WORLDS = {"box": (Obstacles(boxes=TILTED), 1e-6), "cylinder": (Obstacles(cylinders=BEAM), PRISM)}


@pytest.fixture(params=WORLDS)
def world(request):
    obstacles, tolerance = WORLDS[request.param]
    (solid,) = polyhedra.polyhedra(obstacles)
    return obstacles, solid, tolerance


def grid(height: float) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-2.5, 2.5, 90), np.linspace(-2.5, 2.5, 90))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, height)], axis=-1)


def volume(faces) -> float:
    """By the divergence theorem; right only if the faces are closed and turned outwards."""
    return sum(float(np.cross(face, np.roll(face, -1, 0)).sum(0) @ face[0]) / 6.0 for face in faces)


@pytest.mark.parametrize("height", [-0.25, 0.1, 0.42])
@pytest.mark.parametrize("grow", [0.0, 0.3])
def test_a_section_holds_exactly_the_points_within_the_grown_solid(world, height, grow):
    obstacles, solid, tolerance = world
    points = grid(height)
    (true,) = distance(obstacles, points)
    inside = polygons.distance(polyhedra.section(solid, height, grow), points[:, :2]) == 0.0
    slack = tolerance + (0.012 if grow else 0.0)  # a grown section is inscribed, with a polygon for each circle
    assert (true[inside] <= grow + 1e-6).all() and inside.any()
    assert inside[true < grow - slack].all()


def test_a_plane_beside_the_solid_cuts_nothing(world):
    _, solid, _ = world
    top = solid.corners[:, 2].max()
    assert polyhedra.section(solid, top + 0.01) is None and polyhedra.section(solid, top + 0.01, grow=0.1) is not None
    assert polyhedra.section(solid, top + 0.11, grow=0.1) is None


def test_the_footprint_of_a_cylinder_is_its_rectangle():
    (solid,) = polyhedra.polyhedra(Obstacles(cylinders=BEAM))
    outline = polyhedra.footprint(solid) - BEAM.centre[0, :2]
    along = outline @ [np.cos(0.8), np.sin(0.8)]
    across = outline @ [-np.sin(0.8), np.cos(0.8)]
    assert len(outline) == 4 and np.allclose(np.abs(along), 1.2) and np.allclose(np.abs(across), 0.4, atol=1e-6)


def test_faces_are_closed_and_turned_outwards(world):
    _, solid, _ = world
    true = 8 * 1.0 * 0.4 * 0.7 if not solid.round else np.pi * 0.4**2 * 2.4
    assert np.isclose(volume(solid.faces), true, rtol=0.01)
    for face in solid.faces:
        assert polyhedra.normal_of(face) @ (face.mean(0) - solid.corners.mean(0)) > 0.0


def test_a_cut_leaves_the_part_inside_closed(world):
    obstacles, solid, _ = world
    low, high = np.array([-0.4, -0.5, -0.2]), np.array([0.9, 0.3, 0.45])
    points = np.random.default_rng(0).uniform(low, high, (60_000, 3))
    share = (distance(obstacles, points)[0] < 0.0).mean() * np.prod(high - low)
    part = polyhedra.cut_to(solid, low, high)
    assert np.isclose(volume(part.faces), share, atol=0.012)
    assert (part.corners >= low - 1e-9).all() and (part.corners <= high + 1e-9).all()
    assert polyhedra.cut_to(solid, high + 5.0, high + 6.0) is None
    whole = polyhedra.cut_to(solid, low - 9.0, high + 9.0)
    assert len(whole.faces) == len(solid.faces)


def test_tiles_cover_a_face_once_and_are_small(world):
    _, solid, _ = world
    area = lambda face: np.linalg.norm(np.cross(face, np.roll(face, -1, 0)).sum(0)) / 2.0  # noqa: E731
    for face in solid.faces:
        pieces = polyhedra.tiles(face, 0.3)
        assert np.isclose(sum(map(area, pieces)), area(face))
        assert all(np.ptp(piece, axis=0).max() <= 0.3 * np.sqrt(2.0) + 1e-9 for piece in pieces)


def test_a_moving_solid_is_passed_at_the_height_where_it_then_is():
    moving = Boxes(np.zeros((1, 3)), np.full((1, 3), 0.5), np.eye(3)[None], np.ones(1, bool), np.array([1.0, 0, 0.25]))
    path = np.array([[0.0, 3.0, 5.0], [4.0, 1.0, 2.0], [8.0, 3.0, 7.0]])
    heights = polyhedra.passing_heights(polyhedra.polyhedra(Obstacles(boxes=moving)), path, np.array([0.0, 4.0, 8.0]))
    assert heights.tolist() == [2.0 - 4.0 * 0.25], "the second point is beside it, one metre higher than it began"


def test_a_hull_is_counter_clockwise_and_leaves_out_what_is_inside_or_on_an_edge():
    points = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1], [1, 0], [2, 2]], float)
    assert polygons.hull(points).tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]
    found = polygons.distance(polygons.hull(points), np.array([[1.0, 0.5], [3.0, 1.0], [3.0, 3.0], [-1.0, -1.0]]))
    assert np.allclose(found, [0.0, 1.0, np.sqrt(2.0), np.sqrt(2.0)])
