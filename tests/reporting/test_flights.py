import dataclasses
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.flights import flights_from_above, flights_in_space, paired_flights
from drone_cbf.reporting.figures.over_time import flight_over_time
from drone_cbf.reporting.obstacles import Capsules, Obstacles

from .conftest import forest, spheres


def marked(axes, gid):
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def draw(figure: Figure) -> np.ndarray:
    """The picture, (height, width, 4) in 0 .. 255; a warning on the way is an error."""
    canvas = FigureCanvasAgg(figure)  # a figure's own canvas draws nothing before it is saved
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.draw()
    return np.array(canvas.buffer_rgba())


@pytest.fixture
def level(make_flight):
    """A straight flight at z = 0.5 past a sphere it cuts, one it clears, a trunk, and an unused slot."""
    centre = np.array([[0, 1, 0.6], [1, 1, -2.0], [2, 1, 0.0], [3, 1, 0.5]], float)
    scene = Obstacles(Capsules(centre, np.full(4, 0.3), np.array([0, 0, 9.0, 0]), np.array([True, True, True, False])))
    flight = make_flight(obstacles=scene, steps=20)
    position = np.column_stack([np.linspace(-1, 4, 21), np.zeros(21), np.full(21, 0.5)])
    return dataclasses.replace(flight, position=position, velocity=np.gradient(position, 0.05, axis=0))


def test_exactly_the_active_obstacles_that_cross_the_flown_height_are_filled(level):
    axes = flights_from_above([level], "t").axes[0]
    circles = sorted((patch.center[0], patch.radius) for patch in marked(axes, "obstacle"))
    assert np.allclose(circles, [[0.0, np.sqrt(0.09 - 0.01)], [2.0, 0.3]])
    assert [patch.center for patch in marked(axes, "cleared")] == [(1.0, 1.0)]
    assert len(marked(axes, "halo")) == 2


def test_the_path_is_the_recorded_positions_and_its_colour_the_speed(make_flight):
    flight = make_flight(steps=30)
    path = marked(flights_from_above([flight], "t").axes[0], "path")[0]
    drawn = np.array(path.get_segments())
    assert np.allclose(drawn[:, 0], flight.position[:-1, :2]) and np.allclose(drawn[:, 1], flight.position[1:, :2])
    assert np.allclose(path.get_array(), (flight.speed[1:] + flight.speed[:-1]) / 2)


def test_all_panels_share_one_colour_scale_and_equal_aspect(make_flight):
    flights = [make_flight(name=str(k), obstacles=spheres(k), steps=30, speed=1.0 + k) for k in range(3)]
    figure = flights_from_above(flights, "t")
    norms = [marked(axes, "path")[0].norm for axes in figure.axes[:3]]
    assert all(norm.vmax == max(f.speed.max() for f in flights) for norm in norms)
    assert all(axes.get_aspect() == 1.0 for axes in figure.axes[:3])
    assert "[m/s]" in figure.axes[-1].get_ylabel()


def test_flights_of_one_scene_share_a_panel(make_flight):
    scene = spheres(1)
    flights = [make_flight(name=str(k), obstacles=scene, start=(-4, k, 0), steps=10) for k in range(3)]
    figure = flights_from_above([*flights, make_flight(obstacles=spheres(2), steps=10)], "t")
    assert [len(marked(axes, "path")) for axes in figure.axes[:2]] == [3, 1]


def test_only_a_collided_flight_is_flagged_in_red(make_flight):
    good = dataclasses.replace(make_flight(steps=10, obstacles=spheres(1)), collided=False)
    clearance = np.where(np.arange(10) == 6, -0.05, 1.0)
    bad = dataclasses.replace(make_flight(steps=10, obstacles=spheres(2)), collided=True, clearance=clearance)
    first, second = flights_from_above([good, bad], "t").axes[:2]
    assert not marked(first, "contact") and first._left_title.get_color() == style.INK
    assert np.allclose(np.ravel(marked(second, "contact")[0].get_data()), bad.position[6, :2])
    assert second._left_title.get_color() == style.COLLISION and "collided" in second.get_title(loc="left")


def test_the_acting_steps_are_marked_where_they_were_flown(make_flight):
    flight = make_flight(steps=60)
    assert 0 < flight.acted.sum() < 60
    acted = marked(flights_from_above([flight], "t").axes[0], "acted")[0].get_segments()
    assert np.allclose(np.array(acted)[:, 0], flight.position[:-1, :2][flight.acted])


def test_the_scene_in_space_holds_every_visible_obstacle_and_the_whole_path(make_flight):
    flight = make_flight(obstacles=forest(), start=(-9, 0, 1.5), goal=(9, 0, 1.0), steps=20)
    figure = flights_in_space([flight], "t")
    axes = next(axes for axes in figure.axes if isinstance(axes, Axes3D))
    assert len(marked(axes, "obstacle")) == flight.obstacles.capsules.active.sum()
    pieces = np.concatenate([np.array(line._segments3d) for line in marked(axes, "path")])
    assert np.allclose(pieces[:, 0], flight.position[:-1]) and np.allclose(pieces[-1, 1], flight.position[-1])
    assert axes.get_zlim()[1] < 4.0, "trunks of 16 m must not dwarf a flight at 1.5 m"


def test_near_things_are_painted_over_far_ones(make_flight):
    centre = np.array([[0, 3, 0], [0, -3, 0]], float)
    scene = Obstacles(Capsules(centre, np.full(2, 0.5), np.zeros(2), np.ones(2, bool)))
    axes = flights_in_space([make_flight(obstacles=scene, steps=6, start=(-0.1, 0, 0))], "t").axes[0]
    far, near = (solid.get_zorder() for solid in marked(axes, "obstacle"))
    assert far < min(line.get_zorder() for line in marked(axes, "path")) < near


def test_curves_over_time_are_the_records(make_flight):
    flight = make_flight(steps=60)
    panels = flight_over_time(flight).axes
    for axes, gid, expected in (
        (panels[0], "clearance", flight.clearance), (panels[1], "barrier", flight.barrier),
        (panels[1], "analytic", flight.analytic_barrier), (panels[2], "speed", flight.speed),
    ):  # fmt: skip
        line = marked(axes, gid)[0]
        assert np.allclose(line.get_ydata(), expected), gid
        assert np.allclose(line.get_xdata(), np.arange(len(expected)) * flight.time_step), gid
    assert np.allclose(marked(panels[3], "correction")[0].get_ydata()[:-1], flight.correction)
    assert marked(panels[0], "zero") and marked(panels[1], "zero")


def test_shaded_spans_cover_exactly_the_acting_steps(make_flight):
    flight = make_flight(steps=6)
    moved = flight.nominal + np.array([0, 1, 1, 0, 0, 1])[:, None]
    panels = flight_over_time(dataclasses.replace(flight, command=moved)).axes
    spans = [(band.get_x(), band.get_x() + band.get_width()) for band in marked(panels[0], "acting")]
    assert np.allclose(spans, [(0.05, 0.15), (0.25, 0.30)])


def test_a_pair_shows_both_flights_on_one_scale_and_both_clearances(make_flight):
    on, off = make_flight(steps=40), make_flight(steps=40, filtered=False)
    figure = paired_flights(on, off, "t")
    left, right, below = figure.axes[0], figure.axes[1], figure.axes[-1]
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert [text.split(":")[0] for text in titles(figure)] == ["with filter", "without filter"]
    drawn = [line.get_ydata() for line in marked(below, "clearance")]
    assert np.allclose(drawn, [on.clearance, off.clearance])


def test_a_pair_refuses_swapped_flights_and_different_scenes(make_flight):
    on, off = make_flight(steps=5), make_flight(steps=5, filtered=False)
    with pytest.raises(ValueError, match="filter first"):
        paired_flights(off, on, "t")
    with pytest.raises(ValueError, match="different scenes"):
        paired_flights(on, make_flight(steps=5, filtered=False, obstacles=spheres(9)), "t")


def test_no_flights_is_one_clear_error(make_flight):
    for draw_flights in (flights_from_above, flights_in_space):
        with pytest.raises(ValueError, match="no flights to draw"):
            draw_flights([], "t")
        with pytest.raises(ValueError, match="pass \\[flight\\]"):
            draw_flights(make_flight(steps=2), "t")


def test_sparse_flights_draw_without_a_warning(make_flight):
    """One step, every obstacle masked, no barrier evaluated, nothing near, standing still."""
    empty = Obstacles(Capsules(np.full((3, 3), np.nan), np.zeros(3), np.zeros(3), np.zeros(3, bool)))
    nothing = {"barrier": np.full(1, np.nan), "analytic_barrier": np.full(1, np.nan), "clearance": np.full(1, np.inf)}
    one = dataclasses.replace(
        make_flight(steps=1), obstacles=empty, velocity=np.zeros((2, 3)), collided=True, goal=np.zeros(3), **nothing
    )
    for figure in (flights_from_above([one], "t"), flights_in_space([one], "t"), flight_over_time(one)):
        draw(figure)
    assert "no barrier evaluated" in [text.get_text() for text in flight_over_time(one).axes[1].texts]


def test_drawing_leaves_no_trace_in_matplotlib(make_flight):
    before = dict(matplotlib.rcParams)
    flights_from_above([make_flight(steps=3)], "t")
    assert dict(matplotlib.rcParams) == before
    from matplotlib import _pylab_helpers

    assert not _pylab_helpers.Gcf.figs
