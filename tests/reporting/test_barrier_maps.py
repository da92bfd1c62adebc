import dataclasses
import warnings

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet

from drone_cbf.reporting.figures.barriers import NEAR_BOUNDARY, barrier_heatmap, boundary_error
from drone_cbf.reporting.figures.geometry import section_radius

from .test_flights import draw


def parts(axes, kind):
    return [child for child in axes.get_children() if isinstance(child, kind)]


def meshes(figure):
    return [parts(axes, QuadMesh)[0] for axes in figure.axes[:3]]


def test_the_panels_are_analytic_neural_and_their_difference_in_cm(barrier_slice):
    values = [np.asarray(mesh.get_array()) for mesh in meshes(barrier_heatmap(barrier_slice))]
    expected = [barrier_slice.analytic, barrier_slice.neural, 100.0 * (barrier_slice.neural - barrier_slice.analytic)]
    for drawn, wanted in zip(values, expected, strict=True):
        assert np.allclose(drawn.reshape(wanted.shape), wanted)


def test_both_values_share_a_scale_and_every_scale_is_centred_at_zero(barrier_slice):
    analytic, neural, difference = (mesh.norm for mesh in meshes(barrier_heatmap(barrier_slice)))
    assert analytic is neural and difference is not analytic
    assert analytic.vmin == -analytic.vmax and difference.vmin == -difference.vmax


def test_the_bold_line_is_where_each_barrier_is_zero(barrier_slice):
    shifted = dataclasses.replace(barrier_slice, analytic=barrier_slice.x[None] - 1.0 + 0 * barrier_slice.analytic)
    shifted = dataclasses.replace(shifted, neural=shifted.analytic + 0.5)
    figure = barrier_heatmap(shifted)
    found = [parts(axes, ContourSet)[0].get_paths()[0].vertices[:, 0] for axes in figure.axes[:2]]
    assert np.allclose(found[0], 1.0) and np.allclose(found[1], 0.5)
    assert len(parts(figure.axes[2], ContourSet)) == 2


def test_outlines_are_the_active_obstacles_cut_at_the_slice(barrier_slice):
    rows = barrier_slice.obstacles.capsules.table()
    expected = (section_radius(rows, barrier_slice.height) > 0.0).sum()
    assert 0 < expected < len(rows)
    for axes in barrier_heatmap(barrier_slice).axes[:3]:
        assert len([patch for patch in axes.patches if patch.get_gid() == "obstacle"]) == expected


def test_the_arrow_points_along_the_velocity(barrier_slice):
    arrow = next(text for text in barrier_heatmap(barrier_slice).axes[0].texts if getattr(text, "arrow_patch", None))
    direction = np.subtract(arrow.xy, arrow.xyann)
    assert np.allclose(direction / np.linalg.norm(direction), barrier_slice.velocity[:2] / np.hypot(2.0, 0.5))


def test_the_error_near_the_boundary_ignores_what_is_far(barrier_slice):
    near = np.abs(barrier_slice.analytic) < NEAR_BOUNDARY
    wrong_far = dataclasses.replace(barrier_slice, neural=barrier_slice.analytic + np.where(near, 0.01, 5.0))
    assert np.allclose(boundary_error(wrong_far), 0.01) and len(boundary_error(wrong_far)) == near.sum()


def test_constant_and_partly_missing_values_draw_without_a_warning(barrier_slice):
    flat = dataclasses.replace(barrier_slice, analytic=np.full_like(barrier_slice.analytic, 0.7), velocity=np.zeros(3))
    flat = dataclasses.replace(flat, neural=np.where(barrier_slice.x[None] > 0, flat.analytic, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = barrier_heatmap(flat)
        draw(figure)
    assert not any(getattr(text, "arrow_patch", None) for text in figure.axes[0].texts), "at rest there is no direction"


def test_a_slice_with_nothing_to_compare_is_refused(barrier_slice):
    with pytest.raises(ValueError, match="share no finite value"):
        dataclasses.replace(barrier_slice, neural=np.full_like(barrier_slice.neural, np.nan))
