"""The figure of one sensor reading, and the slices of a barrier learned from scans."""

import dataclasses
import warnings

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from drone_cbf.reporting.figures.barrier_slices import SOURCES, barrier_slices, false_promise
from drone_cbf.reporting.figures.scans import scan_figure

from .test_every_shape import covers
from .test_flights import draw, marked, titles
from .test_viewer_scene import with_sensor
from .worlds import every_shape, through_the_window

X, Y = np.linspace(-3.0, 3.0, 41), np.linspace(-2.0, 2.0, 31)
TRUTH = X[None] + 0.0 * Y[:, None]  # negative on the left half
FIELDS = {"obstacles": every_shape(), "height": 1.6, "velocity": np.array([1.0, 0, 0]), "drone_radius": 0.12}


def slices(student=TRUTH + 1.0, analytic=TRUTH - 0.5, truth=TRUTH, **changes):
    return barrier_slices(X, Y, student, analytic, truth, **FIELDS | changes)


def test_the_hits_of_the_step_are_drawn_with_their_distance_and_direction():
    flight = with_sensor()
    above, directions, image = scan_figure(flight, 12).axes[0], *scan_figure(flight, 12).axes[1:3]
    hits = flight.hits(12)
    (drawn,), (seen,) = marked(above, "hits"), marked(directions, "hits")
    offset = hits - flight.position[12]
    assert np.allclose(drawn.get_offsets(), hits[:, :2])
    assert np.allclose(drawn.get_array(), np.linalg.norm(offset, axis=-1))
    azimuth, elevation = np.deg2rad(np.asarray(seen.get_offsets())).T
    rays = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    assert np.allclose(rays * drawn.get_array()[:, None], offset)
    shown = np.ma.filled(image.images[0].get_array(), np.inf)
    assert np.allclose(shown, flight.depth[12])


def test_moving_obstacles_are_drawn_where_they_are_at_the_step():
    flight = with_sensor(100)
    for step, inside in ((0, (2.6, -1.6)), (60, (2.6, -1.6 + 0.8 * 3.0))):
        flight = dataclasses.replace(flight, position=flight.position * [1, 1, 0] + [0, 0, 1.6])
        assert covers(marked(scan_figure(flight, step).axes[0], "obstacle"), inside)


@pytest.mark.parametrize("changes", [{"depth": None}, {"seen": None, "seen_mask": None}])
def test_either_layer_alone_and_a_reading_without_hits_draw_without_a_warning(changes):
    flight = dataclasses.replace(with_sensor(3), **changes)
    figure = scan_figure(flight, 2)
    draw(figure)
    assert any(axes.images for axes in figure.axes) == (flight.depth is not None)
    assert sum(len(hits) for hits in hits_of(figure)) == 2 * len(flight.hits(2)) * (flight.seen is not None)
    if flight.seen is not None:
        assert len(flight.hits(2)) > 0
        figure = scan_figure(dataclasses.replace(flight, seen_mask=np.zeros((3, 40), bool)), 0)
        draw(figure)
        assert not any(len(hits) for hits in hits_of(figure))


def hits_of(figure):
    """Places of the hits in each of the axes that show some."""
    return [np.ma.getdata(points.get_offsets()) for axes in figure.axes for points in marked(axes, "hits")]


def test_a_flight_without_a_sensor_and_a_step_beyond_its_end_are_refused():
    with pytest.raises(ValueError, match="neither `seen` nor `depth`"):
        scan_figure(through_the_window(3), 0)
    with pytest.raises(ValueError, match=r"step = 3 must be in 0 .. 2"):
        scan_figure(with_sensor(3), 3)


def test_three_panels_share_one_scale_in_the_order_of_their_sources():
    figure = slices()
    meshes = [next(part for part in axes.get_children() if isinstance(part, QuadMesh)) for axes in figure.axes[:3]]
    for mesh, values in zip(meshes, (TRUTH + 1.0, TRUTH - 0.5, TRUTH), strict=True):
        assert np.allclose(np.reshape(mesh.get_array(), TRUTH.shape), values) and mesh.norm is meshes[0].norm
    assert titles(figure) == list(SOURCES)


def test_a_promise_that_the_truth_denies_is_hatched_and_its_share_is_written():
    student, analytic, truth = slices().axes[:3]
    assert marked(student, "false promise") and not marked(analytic, "false promise")
    share = ((X >= -1.0) & (X < 0.0)).mean()
    assert any(f"false promise on {100 * share:.2f} %" in text.get_text() for text in student.texts)
    assert any("false promise on 0 %" in text.get_text() for text in analytic.texts) and not marked(truth, "points")


def test_values_that_are_missing_promise_nothing():
    lost = np.where(X[None] < 0.0, np.nan, TRUTH)
    assert not false_promise(lost, TRUTH).any() and not false_promise(TRUTH + 1.0, np.full_like(TRUTH, np.nan)).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(slices(student=np.where(X[None] < 0.0, np.nan, TRUTH), points=np.zeros((0, 3))))


def test_only_points_near_the_slice_are_drawn():
    points = np.array([[0.5, 0.2, 1.5], [1.0, 0.0, 0.2], [-0.3, 1.0, 1.8]])
    (drawn,) = marked(slices(points=points).axes[1], "points")
    assert np.transpose(drawn.get_data()).tolist() == [[0.5, 0.2], [-0.3, 1.0]]


def test_slices_of_another_shape_or_with_nothing_to_compare_are_refused():
    with pytest.raises(ValueError, match=r"analytic has shape \(41, 31\), expected \(31, 41\)"):
        slices(analytic=TRUTH.T)
    with pytest.raises(ValueError, match="student and truth share no finite value"):
        slices(student=np.full_like(TRUTH, np.nan))
    with pytest.raises(ValueError, match="x must hold at least two increasing"):
        barrier_slices(X[::-1], Y, TRUTH, TRUTH, TRUTH, **FIELDS)
