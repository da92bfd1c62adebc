"""One reading of the range sensor: its hits from above and by direction, and the depth image if there is one."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import scene_axes, sections, style
from drone_cbf.reporting.records import Flight

RANGES = "plasma"  # near dark, far light


@style.styled
def scan_figure(flight: Flight, step: int) -> Figure:
    """What the sensor saw at the start of ``step``: obstacles where they are then, cut at the height of the drone.

    Left: the hits from above with the path, right: the hits by azimuth (world frame) and elevation, and the depth
    image if recorded. Colours: distance from the drone [m], one scale. Raises ValueError for a flight without sensor
    data, or a step that it does not have.
    """
    if flight.seen is None and flight.depth is None:
        raise ValueError(f"scan_figure: flight {flight.name!r} has neither `seen` nor `depth`; record the sensor")
    if not 0 <= step < flight.steps:
        raise ValueError(f"scan_figure: step = {step} must be in 0 .. {flight.steps - 1} of flight {flight.name!r}")
    offset = flight.hits(step) - flight.position[step]
    distance = np.linalg.norm(offset, axis=-1)
    image = None if flight.depth is None else flight.depth[step]
    norm = Normalize(0.0, _farthest(distance, image))
    title = f"{flight.name}: sensor at {step * flight.time_step:.2f} s, height {flight.position[step, 2]:.2f} m"
    beside = [flight.seen is not None, image is not None]
    figure = style.new_figure(10.6, 5.0, title)
    left, right = figure.subfigures(1, 2, width_ratios=(1.35, 1.0))
    above = left.subplots()
    _draw_from_above(above, flight, step)
    above.scatter(*flight.hits(step)[:, :2].T, c=distance, norm=norm, cmap=RANGES, **_HIT)
    rest = iter(np.ravel(right.subplots(sum(beside), 1)))
    if flight.seen is not None:
        _draw_directions(next(rest), offset, distance, norm)
    if image is not None:
        _draw_image(next(rest), image, norm)
    shown = above.collections[-1]
    style.colour_bar(figure, shown, [above], "distance [m]", shrink=0.8, pad=0.02, aspect=28)
    left.legend(handles=_legend(), loc="outside lower left", ncols=4)
    return figure


_HIT = {"s": 9, "edgecolors": style.INK, "linewidths": 0.25, "zorder": 3.0, "gid": "hits"}


def _draw_from_above(axes: Axes, flight: Flight, step: int) -> None:
    position, velocity = flight.position[step], flight.velocity[step]
    obstacles = flight.obstacles.at(step * flight.time_step)
    sections.draw_sections(axes, obstacles, float(position[2]))
    axes.plot(*flight.position[:, :2].T, color=style.MUTED, lw=1.0, alpha=0.7, gid="path")
    axes.plot(*flight.goal[:2], gid="goal", **scene_axes.MARK["goal"])
    axes.add_patch(Circle(tuple(position[:2]), flight.drone_radius, fc=style.INK, ec="none", gid="drone", zorder=3.5))
    if np.linalg.norm(velocity[:2]) > 0.05:
        tip = position[:2] + 0.4 * velocity[:2]
        arrow = {"arrowstyle": "-|>", "color": style.INK, "lw": 1.6}
        axes.annotate("", tip, position[:2], arrowprops=arrow, zorder=3.6)
    scene_axes.frame_scene(axes, [flight])
    axes.set_title("hits from above; arrow: way in 0.4 s")


def _draw_directions(axes: Axes, offset: Array, distance: Array, norm: Normalize) -> None:
    azimuth = np.rad2deg(np.arctan2(offset[:, 1], offset[:, 0]))
    elevation = np.rad2deg(np.arcsin(offset[:, 2] / np.maximum(distance, 1e-9)))
    axes.scatter(azimuth, elevation, c=distance, norm=norm, cmap=RANGES, **_HIT)
    # Azimuth grows to the left, as the drone sees it.
    axes.set(xlim=(180.0, -180.0), xticks=range(-180, 181, 90), title=f"{len(offset)} hits by direction")
    axes.set(xlabel="azimuth from x [°]", ylabel="elevation [°]")
    axes.grid(True)
    if not len(offset):
        style.say_empty(axes, "no ray hit anything")


def _draw_image(axes: Axes, image: Array, norm: Normalize) -> None:
    axes.set_facecolor(style.HALO)
    axes.imshow(np.ma.masked_invalid(image), norm=norm, cmap=RANGES, interpolation="nearest")
    axes.set(title=f"depth image, {image.shape[1]} × {image.shape[0]} (grey: nothing)", xticks=[], yticks=[])


def _farthest(distance: Array, image: Array | None) -> float:
    """End of the scale of distances [m]."""
    seen = distance if image is None else np.concatenate([distance, image[np.isfinite(image)]])
    return float(seen.max()) if len(seen) else 1.0


def _legend() -> list[Line2D | Patch]:
    section = Patch(fc=style.OBSTACLE, ec=style.OBSTACLE_EDGE, label="obstacle at the height of the drone")
    drone = Line2D([], [], marker="o", ls="none", ms=6, color=style.INK, label="drone")
    return [drone, Line2D([], [], label="goal", **scene_axes.MARK["goal"]), section, sections.missed_handle()]
