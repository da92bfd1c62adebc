"""Figures of recorded flights: from above, in space, over time, and with the filter against without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure

from drone_cbf.reporting.figures import geometry, scene_axes, space_axes, style, time_axes
from drone_cbf.reporting.records import Flight, require_flights

LARGEST_GRID = 12
"""Scenes that one figure can show side by side and stay readable."""


@style.styled
def flights_from_above(flights: Sequence[Flight], title: str) -> Figure:
    """One panel per scene, flights with the same obstacles together, paths coloured by speed.

    Each obstacle is cut at the height at which it is passed. A collided flight has a red casing, a red cross at first
    contact and a red panel title. Raises ValueError for no flights, or more than ``LARGEST_GRID`` different scenes.
    """
    scenes = _scenes(flights)
    colours = scene_axes.speed_colours(flights)
    columns, rows = _grid(len(scenes))
    figure = style.new_figure(*_size(columns, rows, _flatness(flights)), title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, scene in zip(panels, scenes, strict=False):
        scene_axes.draw_sections(axes, scene)
        for flight in scene:
            scene_axes.draw_path(axes, flight, colours)
        scene_axes.frame_scene(axes, scene)
        scene_axes.title_scene(axes, scene)
        scene_axes.name_starts(axes, scene)
    for axes in panels[len(scenes) :]:
        axes.remove()
    _finish(figure, flights, colours, panels[: len(scenes)])
    return figure


@style.styled
def flights_in_space(flights: Sequence[Flight], title: str) -> Figure:
    """The same scenes in three dimensions, true to scale; trunks are cut to the heights that are flown.

    The thin grey line is the path's shadow on the floor. Raises ValueError as ``flights_from_above``.
    """
    scenes = _scenes(flights)
    colours = scene_axes.speed_colours(flights)
    columns, rows = _grid(len(scenes))
    figure = style.new_figure(*_size(columns, rows, 0.62, side=1.4 * style.PANEL), title)
    panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "3d", "computed_zorder": False})
    panels = panels.ravel()
    for axes, scene in zip(panels, scenes, strict=False):
        heights = geometry.visible_heights(scene)
        surfaces = space_axes.draw_surfaces(axes, scene, heights)
        space_axes.frame_space(axes, scene, surfaces, heights)
        for flight in scene:
            space_axes.draw_path(axes, flight, colours, axes.get_zlim()[0])
        scene_axes.title_scene(axes, scene)
    for axes in panels[len(scenes) :]:
        axes.remove()
    _finish(figure, flights, colours, panels[: len(scenes)], sections=False, gap=0.06)
    return figure


@style.styled
def flight_over_time(flight: Flight) -> Figure:
    """Clearance, barrier flown and true, speed, and the filter's correction over time; shaded where the filter acts."""
    require_flights([flight])
    figure = style.new_figure(7.6, 7.2, f"{flight.name}: {flight.outcome}, observation noise {flight.noise:g} m")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(1.2, 1.2, 1.0, 1.0))
    time_axes.draw_clearance(panels[0], [flight])
    time_axes.draw_barrier(panels[1], flight)
    time_axes.draw_speed(panels[2], flight)
    time_axes.draw_correction(panels[3], flight)
    for axes in panels:
        time_axes.shade_acting(axes, flight)
        axes.label_outer()
    panels[-1].set(xlabel="time [s]", xlim=(0.0, flight.times[-1]))
    figure.align_ylabels(panels)
    return figure


@style.styled
def paired_flights(filter_on: Flight, filter_off: Flight, title: str) -> Figure:
    """The same scene with and without the filter, side by side, and the clearance of both over time below.

    Raises ValueError unless the first was filtered, the second was not, and both have the same obstacles.
    """
    pair = [filter_on, filter_off]
    require_flights(pair)
    if not filter_on.filtered or filter_off.filtered:
        raise ValueError("paired_flights: pass the flight with the filter first and the one without it second")
    if not filter_on.obstacles.same_as(filter_off.obstacles):
        raise ValueError("paired_flights: the two flights were flown in different scenes; fly both in one")
    colours = scene_axes.speed_colours(pair)
    width, height = _size(2, 1, _flatness(pair))
    figure = style.new_figure(width, height + 2.1, title)
    above, below = figure.subfigures(2, 1, height_ratios=(height, 2.1))
    panels = above.subplots(1, 2, sharex=True, sharey=True)
    for axes, flight, label in zip(panels, pair, ("with filter", "without filter"), strict=True):
        scene_axes.draw_sections(axes, [flight])
        scene_axes.draw_path(axes, flight, colours)
        scene_axes.frame_scene(axes, pair)
        colour = style.COLLISION if flight.collided else style.INK
        axes.set_title(f"{label}: {flight.outcome}", color=colour)
        axes.label_outer()
    _finish(above, pair, colours, panels)
    axes = below.subplots()
    time_axes.draw_clearance(axes, pair, ("with filter", "without filter"))
    time_axes.shade_acting(axes, filter_on)
    axes.set(xlabel="time [s]", xlim=(0.0, max(flight.times[-1] for flight in pair)))
    return figure


def _scenes(flights: Sequence[Flight]) -> list[list[Flight]]:
    require_flights(flights)
    scenes = geometry.by_scene(flights)
    if len(scenes) > LARGEST_GRID:
        raise ValueError(f"{len(scenes)} different scenes; one figure shows at most {LARGEST_GRID}, pass fewer flights")
    return scenes


def _grid(count: int) -> tuple[int, int]:
    """Columns and rows for ``count`` panels, wider than tall."""
    columns = min(count, 4 if count > 6 else 3 if count != 4 else 2)
    return columns, -(-count // columns)


def _flatness(flights: Sequence[Flight]) -> float:
    """Height over width of the scenes as drawn, within what a page bears."""
    points = np.concatenate([flight.position for flight in flights] + [f.obstacles.table()[:, :3] for f in flights])
    extent = np.ptp(points[:, :2], axis=0) + 1.0
    return float(np.clip(extent[1] / extent[0], 0.35, 1.3))


def _size(columns: int, rows: int, flatness: float, side: float = style.PANEL) -> tuple[float, float]:
    """Figure size [inch]: a single panel is drawn larger, titles and legend get their share."""
    side = 1.6 * side if columns * rows == 1 else side
    return columns * side + 1.0, rows * (side * flatness + 0.35) + 1.0


def _finish(
    figure: Figure | SubFigure, flights: Sequence[Flight], colours: ScalarMappable, panels: Sequence[Axes],
    sections: bool = True, gap: float = 0.015,
) -> None:  # fmt: skip
    """The shared colour bar of speed, and a legend below."""
    bar = figure.colorbar(colours, ax=list(panels), shrink=0.8, pad=gap, aspect=28)
    bar.set_label("speed [m/s]")
    bar.outline.set_visible(False)
    handles = scene_axes.scene_legend(flights, sections)
    per_row = len(handles) if figure.bbox.width / style.DPI > 9.5 or not sections else 4
    figure.legend(handles=handles, loc="outside lower left", ncols=per_row, columnspacing=1.4, handletextpad=0.5)
