"""Draws obstacles, paths and markers of flights on one panel, from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import geometry, sections, style
from drone_cbf.reporting.records import Flight

LABELLED_FLIGHTS = 6  # panels with more flights show no names

MARK = {
    "start": {"marker": "o", "ms": 6, "mfc": style.PAPER, "mec": style.INK, "mew": 1.2, "ls": "none"},
    "goal": {"marker": "*", "ms": 11, "mfc": style.YELLOW, "mec": style.INK, "mew": 0.8, "ls": "none"},
    "contact": {"marker": "X", "ms": 9, "mfc": style.COLLISION, "mec": style.PAPER, "mew": 0.8, "ls": "none"},
}
MOTION = {"color": style.OBSTACLE_EDGE, "lw": 1.2, "ls": (0, (3, 2)), "marker": "o", "ms": 5, "mfc": "none"}
# Wider lines under the path, so that its colour still tells the speed.
CASING = {
    "acted": {"colors": style.ACTED, "linewidths": 5.5, "alpha": 0.55},
    "collision": {"colors": style.COLLISION, "linewidths": 8.0, "alpha": 0.28},
}


def speed_colours(flights: Sequence[Flight]) -> ScalarMappable:
    """One colour scale of speed [m/s] for all flights of a figure, starting at zero."""
    fastest = max(float(flight.speed.max()) for flight in flights)
    return ScalarMappable(Normalize(0.0, max(fastest, 0.1)), style.speed_scale())


def draw_scene(axes: Axes, flights: Sequence[Flight]) -> None:
    """The scene of ``flights`` (all share it) from above, each obstacle cut at the height at which it is passed.

    Moving obstacles are shown at time zero, with an arrow to where they are at the end of the longest flight.
    """
    path, times = geometry.flown_times(flights)
    heights = sections.passing_heights(flights[0].obstacles, path, times)
    sections.draw_halos(axes, flights[0].obstacles, heights, flights[0].drone_radius)
    sections.draw_sections(axes, flights[0].obstacles, heights)
    sections.draw_motion(axes, flights[0].obstacles, float(times.max()))


def draw_path(axes: Axes, flight: Flight, colours: ScalarMappable) -> None:
    """Path from above coloured by speed, start, goal, steps on which the filter acted, and the collision if any."""
    pieces = segments(flight.position[:, :2])
    if flight.collided:
        axes.add_collection(LineCollection(pieces, gid="collision", zorder=1.8, **CASING["collision"]))
    axes.add_collection(LineCollection(pieces[flight.acted], gid="acted", zorder=1.9, **CASING["acted"]))
    look = {"array": step_speed(flight), "norm": colours.norm, "cmap": colours.cmap, "linewidths": 2.0}
    axes.add_collection(LineCollection(pieces, gid="path", capstyle="round", zorder=2.0, **look))
    for order, (name, point) in enumerate(marks(flight).items()):
        axes.plot(*point[:2], gid=name, zorder=2.6 + 0.1 * order, **MARK[name])


def frame_scene(axes: Axes, flights: Sequence[Flight], margin: float = 0.6) -> None:
    """Equal aspect; limits contain all paths and obstacles, long ones cut, plus ``margin`` [m]."""
    low, high = geometry.level_bounds(flights)
    low, high = low - 0.5 * margin, high + 0.5 * margin
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x [m]", ylabel="y [m]")
    axes.grid(True)


def title_scene(axes: Axes, flights: Sequence[Flight], name: str | None = None) -> None:
    """Title with the outcome, red for a collision; ``name`` replaces the name of a single flight."""
    collisions = sum(flight.collided for flight in flights)
    text = f"{name or flights[0].name}: {flights[0].outcome}"
    if len(flights) > 1:
        reached = sum(flight.reached and not flight.collided for flight in flights)
        text = f"{len(flights)} flights: {reached} reached, {collisions} collided"
    axes.set_title(text, color=style.COLLISION if collisions else style.INK)


def name_starts(axes: Axes, flights: Sequence[Flight]) -> None:
    """Names beside the starts if several, but few, flights share a panel; red for a collision."""
    for flight in flights if 1 < len(flights) <= LABELLED_FLIGHTS else ():
        look = {"color": style.COLLISION if flight.collided else style.INK, "size": style.SMALL, "va": "bottom"}
        text = axes.annotate(flight.name, flight.position[0, :2], (5, 4), textcoords="offset points", zorder=3, **look)
        text.set_bbox({"fc": style.PAPER, "ec": "none", "alpha": 0.75, "pad": 0.8})


def scene_legend(flights: Sequence[Flight], from_above: bool = True) -> list[Line2D | Patch]:
    """Legend handles of the marks that occur; ``from_above``: also of obstacles seen from above."""
    handles: list[Line2D | Patch] = [Line2D([], [], label=name, **MARK[name]) for name in ("start", "goal")]
    if any(flight.acted.any() for flight in flights):
        handles.append(Line2D([], [], color=style.ACTED, lw=5.5, alpha=0.55, label="filter acts"))
    if any(flight.collided for flight in flights):
        handles.append(Line2D([], [], label="collision", **MARK["contact"]))
    moving = any(sections.moves(flight.obstacles) for flight in flights)
    if moving and not from_above:
        handles.append(Line2D([], [], label="moving obstacle, start to end", **MOTION))
    if from_above:
        handles.append(Patch(fc=style.OBSTACLE, ec=style.OBSTACLE_EDGE, label="obstacle at the height of passing"))
        handles += [Patch(fc=style.HALO, label="+ drone radius"), sections.missed_handle()]
        handles += [sections.motion_handle()] if moving else []
    return handles


def segments(position: Array) -> Array:
    """The path as one segment per step, (T, 2, dimensions)."""
    return np.stack([position[:-1], position[1:]], axis=1)


def step_speed(flight: Flight) -> Array:
    """Mean speed of each step [m/s], (T,)."""
    return 0.5 * (flight.speed[:-1] + flight.speed[1:])


def marks(flight: Flight) -> dict[str, Array]:
    """Marked positions by name [m], (3,) each: start, goal, and the first contact of a collided flight."""
    found = {"start": flight.position[0], "goal": flight.goal}
    if flight.collided:  # without a negative clearance, the step of the smallest
        gap = np.where(np.isnan(flight.clearance), np.inf, flight.clearance)
        found["contact"] = flight.position[np.argmax(gap < 0.0) if (gap < 0.0).any() else np.argmin(gap)]
    return found
