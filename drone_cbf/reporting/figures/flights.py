"""Figures of recorded flights: from above, in space, and with and without the filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, FigureBase

from drone_cbf.reporting.figures import geometry, over_time, scene_axes, space_axes, style
from drone_cbf.reporting.records import Flight, require_flights

LARGEST_GRID = 12  # scenes in one figure


@style.styled
def flights_from_above(flights: Sequence[Flight], title: str) -> Figure:
    """One panel per scene, flights with the same obstacles together, paths coloured by speed.

    Each obstacle is cut at the height at which it is passed. A collided flight has a red casing, a red cross at first
    contact and a red panel title. Raises ValueError for no flights, or more than ``LARGEST_GRID`` different scenes.
    """

    def draw(axes: Axes, scene: Sequence[Flight], colours: ScalarMappable) -> None:
        scene_axes.draw_scene(axes, scene)
        for flight in scene:
            scene_axes.draw_path(axes, flight, colours)
        scene_axes.frame_scene(axes, scene)
        scene_axes.name_starts(axes, scene)

    return _draw_scenes(flights, title, draw)


@style.styled
def flights_in_space(flights: Sequence[Flight], title: str) -> Figure:
    """The same scenes in three dimensions, true to scale; trunks are cut to the flown heights.

    The thin grey line is the path's shadow on the floor. Raises ValueError as ``flights_from_above``.
    """

    def draw(axes: Any, scene: Sequence[Flight], colours: ScalarMappable) -> None:
        heights = geometry.visible_heights(scene)
        space_axes.frame_space(axes, scene, space_axes.draw_surfaces(axes, scene, heights), heights)
        space_axes.draw_ground(axes, scene)
        for flight in scene:
            space_axes.draw_path_in_space(axes, flight, colours, axes.get_zlim()[0])

    return _draw_scenes(flights, title, draw, in_space=True)


def _draw_scenes(flights: Sequence[Flight], title: str, draw: Callable[..., None], in_space: bool = False) -> Figure:
    """One panel per scene, drawn by ``draw(axes, flights, colours)``, with titles, colour bar and legend."""
    require_flights(flights)
    by_scene: dict[bytes, list[Flight]] = {}
    for flight in flights:
        by_scene.setdefault(flight.obstacles.key(), []).append(flight)
    count = len(by_scene)
    if count > LARGEST_GRID:
        raise ValueError(f"{count} different scenes; one figure shows at most {LARGEST_GRID}, pass fewer flights")
    columns = min(count, 4 if count > 6 else 3 if count != 4 else 2)  # wider than tall
    flatness, side = (0.62, 1.4 * style.PANEL) if in_space else (_flatness(flights), style.PANEL)
    look = {"subplot_kw": {"projection": "3d", "computed_zorder": False}} if in_space else {}
    figure = style.new_figure(*_size(columns, -(-count // columns), flatness, side), title)
    panels = style.panel_grid(figure, count, columns, **look)
    colours = scene_axes.speed_colours(flights)
    for axes, scene in zip(panels, by_scene.values(), strict=True):
        draw(axes, scene, colours)
        scene_axes.title_scene(axes, scene)
    _finish(figure, flights, colours, panels, in_space)
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
        scene_axes.draw_scene(axes, [flight])
        scene_axes.draw_path(axes, flight, colours)
        scene_axes.frame_scene(axes, pair)
        scene_axes.title_scene(axes, [flight], label)
        axes.label_outer()
    _finish(above, pair, colours, panels)
    axes = below.subplots()
    over_time.draw_clearance(axes, pair, ("with filter", "without filter"))
    over_time.shade_acting(axes, filter_on)
    axes.set(xlabel="time [s]", xlim=(0.0, max(flight.times[-1] for flight in pair)))
    return figure


def _flatness(flights: Sequence[Flight]) -> float:
    """Height over width of the scenes, clipped to fit a page."""
    bounds = [np.stack(geometry.level_bounds([flight])) for flight in flights]
    extent = np.ptp(np.concatenate(bounds), axis=0) + 0.6
    return float(np.clip(extent[1] / extent[0], 0.35, 1.3))


def _size(columns: int, rows: int, flatness: float, side: float = style.PANEL) -> tuple[float, float]:
    """Figure size [inch]: a single panel is drawn larger; includes room for titles and legend."""
    side = 1.6 * side if columns * rows == 1 else side
    return columns * side + 1.0, rows * (side * flatness + 0.35) + 1.0


def _finish(figure: FigureBase, flights: Sequence[Flight], colours: Any, panels: Any, in_space: bool = False) -> None:
    """The shared colour bar of speed, and a legend below."""
    gap = 0.06 if in_space else 0.015
    style.colour_bar(figure, colours, panels, "speed [m/s]", shrink=0.8, pad=gap, aspect=28)
    handles = scene_axes.scene_legend(flights, from_above=not in_space)
    per_row = len(handles) if figure.bbox.width / style.DPI > 9.5 or in_space else 4
    figure.legend(handles=handles, loc="outside lower left", ncols=per_row, columnspacing=1.4, handletextpad=0.5)
