"""Still figures of a scene with boxes, cylinders, ground, and obstacles that move."""

import dataclasses

import numpy as np
import pytest
from matplotlib.path import Path
from mpl_toolkits.mplot3d import art3d

from drone_cbf.reporting.figures.barriers import barrier_heatmap
from drone_cbf.reporting.figures.flights import flights_from_above, flights_in_space, paired_flights
from drone_cbf.reporting.figures.space_axes import VIEW
from drone_cbf.reporting.obstacles import Boxes, Obstacles
from drone_cbf.reporting.records import BarrierSlice

from .test_flights import draw, marked
from .worlds import GROUND, distance, every_shape, through_the_window


def covers(patches, point) -> bool:
    outlines = (patch.get_patch_transform().transform_path(patch.get_path()) for patch in patches)
    return any(outline.contains_point(point) for outline in outlines)


def corners(solid) -> np.ndarray:
    """Of the faces of a collection in space, (N, 3)."""
    return np.concatenate([np.asarray(face)[:, :3] for face in solid._faces])


@pytest.fixture
def flight():
    return through_the_window()


def test_from_above_the_window_is_open_and_the_wall_beside_it_solid(flight):
    axes = flights_from_above([flight], "t").axes[0]
    solid = marked(axes, "obstacle")
    assert not covers(solid, (0.0, 0.0)) and covers(solid, (0.0, 1.5)) and covers(solid, (0.0, -1.5))
    assert covers(marked(axes, "cleared"), (0.0, 0.0)), "sill and lintel are faint"
    assert len(solid) + len(marked(axes, "cleared")) == 3 + 6 + 2


def test_halos_from_above_are_where_the_centre_of_the_drone_would_touch_at_that_height(flight):
    still = dataclasses.replace(every_shape().at(0.0), capsules=Obstacles().capsules, cylinders=Obstacles().cylinders)
    level = flight.position * [1.0, 1.0, 0.0] + [0.0, 0.0, 1.6]
    flight = dataclasses.replace(flight, obstacles=still, position=level)
    halos = marked(flights_from_above([flight], "t").axes[0], "halo")
    x, y = np.meshgrid(np.linspace(-4.0, 0.5, 90), np.linspace(-2.5, 2.5, 70))
    gaps = distance(still, np.stack([x.ravel(), y.ravel(), np.full(x.size, 1.6)], -1)).min(0) - flight.drone_radius
    inside = np.array([covers(halos, point) for point in np.stack([x.ravel(), y.ravel()], -1)])
    clear = np.abs(gaps) > 0.01
    assert (inside == (gaps < 0.0))[clear].all() and inside.sum() > 100


def test_a_moving_obstacle_is_at_its_start_with_an_arrow_to_its_end(flight):
    axes = flights_from_above([flight], "t").axes[0]
    assert len(marked(axes, "moved")) == len(marked(axes, "motion")) == 2
    assert covers(marked(axes, "obstacle"), (2.6, -1.6)) and covers(marked(axes, "moved"), (2.6, -1.6 + 0.8 * 5.0))
    still = dataclasses.replace(flight, obstacles=dataclasses.replace(every_shape(), boxes=Obstacles().boxes))
    assert len(marked(flights_from_above([still], "t").axes[0], "motion")) == 1


def test_only_the_side_view_shows_the_ground_and_only_when_it_is_near(flight):
    assert not marked(flights_from_above([flight], "t").axes[0], "ground")
    (ground,) = marked(flights_in_space([flight], "t").axes[0], "ground")
    assert np.allclose(corners(ground)[:, 2], GROUND)
    deep = dataclasses.replace(flight, obstacles=dataclasses.replace(every_shape(), ground=-20.0))
    assert not marked(flights_in_space([deep], "t").axes[0], "ground")


def towards_viewer() -> np.ndarray:
    elevation, azimuth = np.deg2rad(VIEW["elev"]), np.deg2rad(VIEW["azim"])
    return np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])


def misordered(axes) -> tuple[int, int]:
    """Pairs of a piece of the path and a face in the same place of the picture: those in the wrong order, and all."""
    towards = towards_viewer()
    plane = np.linalg.svd(towards[None])[2][1:].T  # two directions across the view
    wrong = pairs = 0
    for solid in marked(axes, "obstacle"):
        for face in (np.asarray(face)[:, :3] for face in solid._faces):
            normal, outline = np.cross(face[1] - face[0], face[2] - face[0]), Path(face @ plane)
            for piece in marked(axes, "path"):
                point = np.concatenate(piece._segments3d).mean(0)
                way = (face[0] - point) @ normal / (towards @ normal)  # from the point to the face, towards the viewer
                if outline.contains_point(point @ plane) and abs(way) > 0.2:
                    pairs += 1
                    wrong += (solid.get_zorder() > piece.get_zorder()) != (way > 0.0)
    return wrong, pairs


@pytest.mark.parametrize("side", [-0.9, 0.9])
def test_a_path_along_a_wall_is_painted_before_it_where_it_is_behind_and_else_after(flight, side):
    """Along the whole path: the middle of the wall is nearer to the viewer than one end of the path, not than both."""
    wall = Boxes(np.array([[0.0, side, 1.5]]), np.array([[4.5, 0.1, 1.5]]), np.eye(3)[None], np.ones(1, bool))
    axes = flights_in_space([dataclasses.replace(flight, obstacles=Obstacles(boxes=wall))], "t").axes[0]
    wrong, pairs = misordered(axes)
    assert pairs > 10 and wrong == 0


def test_faces_turned_away_are_not_drawn_as_their_tiles_would_cover_those_before_them(flight):
    scene = dataclasses.replace(every_shape(), capsules=Obstacles().capsules)
    axes = flights_in_space([dataclasses.replace(flight, obstacles=scene)], "t").axes[0]
    for solid in marked(axes, "obstacle"):
        for face in solid._faces:
            assert np.cross(face[1] - face[0], face[2] - face[0])[:3] @ towards_viewer() > -1e-9


def test_what_matplotlib_leaves_uninitialised_reaches_no_limit(flight, monkeypatch):
    """It fills up faces with fewer corners than others by memory as it is, here the largest of numbers."""
    expected = flights_in_space([flight], "t").axes[0]

    class Unlucky:
        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, shape, *rest):
            return np.full(shape, np.finfo(float).max, *rest)

    monkeypatch.setattr(art3d, "np", Unlucky())
    axes = flights_in_space([flight], "t").axes[0]
    assert any((solid._faces > 1e3).any() for solid in marked(axes, "obstacle"))
    for limits in ("get_xlim", "get_ylim", "get_zlim"):
        assert getattr(axes, limits)() == getattr(expected, limits)()


def test_long_walls_are_cut_near_the_flight_in_every_view(flight):
    boxes = every_shape().boxes
    half = boxes.half_size.copy()
    half[1] = [0.1, 50.0, 30.0]
    long = dataclasses.replace(every_shape(), boxes=dataclasses.replace(boxes, half_size=half))
    flight = dataclasses.replace(flight, obstacles=long)
    assert np.ptp(flights_from_above([flight], "t").axes[0].get_ylim()) < 8.0
    axes = flights_in_space([flight], "t").axes[0]
    assert np.ptp(axes.get_ylim()) < 8.0 and np.ptp(axes.get_zlim()) < 4.0


def test_figures_of_every_shape_draw_without_a_warning(flight):
    def pictures(flight):
        off = dataclasses.replace(flight, filtered=False)
        figures = flights_from_above([flight], "t"), flights_in_space([flight], "t"), paired_flights(flight, off, "t")
        return [draw(figure) for figure in figures]

    whole, empty = pictures(flight), pictures(dataclasses.replace(flight, obstacles=Obstacles()))
    for one, other in zip(whole, empty, strict=True):
        assert one.shape != other.shape or np.mean(np.any(one != other, axis=-1)) > 0.01, "the shapes are seen"


def test_a_slice_outlines_boxes_and_cylinders_at_its_height():
    x = np.linspace(-4.0, 4.0, 5)
    values = x[None] + np.zeros((5, 1))
    fields = {"x": x, "y": x, "analytic": values, "neural": values, "velocity": np.zeros(3), "drone_radius": 0.1}
    data = BarrierSlice(**fields, height=0.6, obstacles=every_shape())
    axes = barrier_heatmap(data).axes[0]
    assert covers(marked(axes, "obstacle"), (0.0, 0.0)), "the sill is cut at 0.6 m"
    assert covers(marked(axes, "obstacle"), (3.2, 0.0)) and not covers(marked(axes, "obstacle"), (-1.6, 0.2))
