"""Draws obstacles, paths and markers of flights from above on one panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from drone_cbf.reporting.figures import geometry, style
from drone_cbf.reporting.records import Array, Flight

LABELLED_FLIGHTS = 6
"""Panels with more flights show no names."""


MARK = {
    "start": {"marker": "o", "ms": 6, "mfc": style.PAPER, "mec": style.INK, "mew": 1.2, "ls": "none"},
    "goal": {"marker": "*", "ms": 11, "mfc": style.YELLOW, "mec": style.INK, "mew": 0.8, "ls": "none"},
    "contact": {"marker": "X", "ms": 9, "mfc": style.COLLISION, "mec": style.PAPER, "mew": 0.8, "ls": "none"},
}
SECTION = {"fc": style.OBSTACLE, "ec": style.OBSTACLE_EDGE, "lw": style.THIN, "zorder": 1.2}
MISSED = {"fc": "none", "ec": style.OBSTACLE, "lw": style.THIN, "ls": ":", "zorder": 0.9}
# Wider lines under the path, so that its colour still tells the speed.
CASING = {
    "acted": {"colors": style.ACTED, "linewidths": 5.5, "alpha": 0.55},
    "collision": {"colors": style.COLLISION, "linewidths": 8.0, "alpha": 0.28},
}


def speed_colours(flights: Sequence[Flight]) -> ScalarMappable:
    """One colour scale of speed [m/s] for all flights of a figure, starting at zero."""
    fastest = max(float(flight.speed.max()) for flight in flights)
    return ScalarMappable(Normalize(0.0, max(fastest, 0.1)), style.speed_scale())


def segments(flight: Flight, dimensions: int) -> Array:
    """The path as one segment per step, (T, 2, dimensions)."""
    position = flight.position[:, :dimensions]
    return np.stack([position[:-1], position[1:]], axis=1)


def draw_scene(axes: Axes, flights: Sequence[Flight]) -> None:
    """The scene of ``flights`` (all share it) from above, each obstacle cut at the height at which it is passed."""
    obstacles = flights[0].obstacles.table()
    height = geometry.passing_height(obstacles, np.concatenate([flight.position for flight in flights]))
    rims = geometry.section_radius(obstacles, height, flights[0].drone_radius)
    for obstacle, rim in zip(obstacles, rims, strict=True):
        if rim > 0.0:
            axes.add_patch(Circle(tuple(obstacle[:2]), rim, fc=style.HALO, ec="none", gid="halo", zorder=1.0))
    draw_sections(axes, obstacles, height)


def draw_sections(
    axes: Axes,
    obstacles: Array,
    height: Array | float,
    cut: Mapping[str, object] = SECTION,
    missed: Mapping[str, object] = MISSED,
) -> None:
    """A circle per obstacle: with the look ``cut`` if it is at ``height``, else ``missed`` with its full radius.

    ``obstacles``: rows of ``Obstacles.table()``; ``height``: one, or one per obstacle [m].
    """
    for obstacle, radius in zip(obstacles, geometry.section_radius(obstacles, height), strict=True):
        look = {**cut, "gid": "obstacle"} if radius > 0.0 else {**missed, "gid": "cleared"}
        axes.add_patch(Circle(tuple(obstacle[:2]), radius or obstacle[3], **look))


def draw_path(axes: Axes, flight: Flight, colours: ScalarMappable) -> None:
    """Path from above coloured by speed, start, goal, steps on which the filter acted, and the collision if any."""
    pieces = segments(flight, 2)
    if flight.collided:
        axes.add_collection(LineCollection(pieces, gid="collision", zorder=1.8, **CASING["collision"]))
    axes.add_collection(LineCollection(pieces[flight.acted], gid="acted", zorder=1.9, **CASING["acted"]))
    look = {"array": step_speed(flight), "norm": colours.norm, "cmap": colours.cmap, "linewidths": 2.0}
    axes.add_collection(LineCollection(pieces, gid="path", capstyle="round", zorder=2.0, **look))
    for order, (name, point) in enumerate(marks(flight).items()):
        axes.plot(*point[:2], gid=name, zorder=2.6 + 0.1 * order, **MARK[name])


def marks(flight: Flight) -> dict[str, Array]:
    """Marked positions by name [m], (3,) each: start, goal, and the first contact of a collided flight."""
    found = {"start": flight.position[0], "goal": flight.goal}
    return found | ({"contact": flight.position[first_contact(flight)]} if flight.collided else {})


def step_speed(flight: Flight) -> Array:
    """Mean speed of each step [m/s], (T,)."""
    return 0.5 * (flight.speed[:-1] + flight.speed[1:])


def first_contact(flight: Flight) -> int:
    """First step with negative clearance; without one, the step of smallest clearance."""
    touching = flight.clearance < 0.0
    if touching.any():
        return int(np.argmax(touching))
    return 0 if np.isnan(flight.clearance).all() else int(np.nanargmin(flight.clearance))


def frame_scene(axes: Axes, flights: Sequence[Flight], margin: float = 0.6) -> None:
    """Equal aspect; limits contain all paths and obstacles plus ``margin`` [m]."""
    obstacles = flights[0].obstacles.table()
    edges = [obstacles[:, :2] + sign * obstacles[:, 3:4] for sign in (-1.0, 1.0)]
    corners = np.concatenate([geometry.flown_points(flights)[:, :2], *edges])
    low, high = corners.min(0) - 0.5 * margin, corners.max(0) + 0.5 * margin
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x [m]", ylabel="y [m]")
    axes.grid(True)


def title_scene(axes: Axes, flights: Sequence[Flight], name: str | None = None) -> None:
    """Title with the outcome, red for a collision; ``name`` replaces the name of a single flight."""
    collisions = sum(flight.collided for flight in flights)
    text = f"{name or flights[0].name}: {flights[0].outcome}"
    if len(flights) > 1:
        reached = sum(flight.reached and not flight.collided for flight in flights)
        text = f"{len(flights)} flights: {reached} reached, {collisions} collided"
    axes.set_title(text, color=style.outcome_colour(collisions > 0))


def name_starts(axes: Axes, flights: Sequence[Flight]) -> None:
    """Names beside the starts if several, but few, flights share a panel; red for a collision."""
    if not 1 < len(flights) <= LABELLED_FLIGHTS:
        return
    for flight in flights:
        look = {
            "color": style.outcome_colour(flight.collided),
            "fontsize": style.SMALL,
            "ha": "left",
            "va": "bottom",
            "zorder": 3,
        }
        text = axes.annotate(flight.name, flight.position[0, :2], (5, 4), textcoords="offset points", **look)
        text.set_bbox({"fc": style.PAPER, "ec": "none", "alpha": 0.75, "pad": 0.8})


def scene_legend(flights: Sequence[Flight], sections: bool = True) -> list[Line2D | Patch]:
    """Legend handles of the marks that occur; ``sections``: also of obstacles seen from above."""
    handles: list[Line2D | Patch] = [Line2D([], [], label=name, **MARK[name]) for name in ("start", "goal")]
    if any(flight.acted.any() for flight in flights):
        handles.append(Line2D([], [], color=style.ACTED, lw=5.5, alpha=0.55, label="filter acts"))
    if any(flight.collided for flight in flights):
        handles.append(Line2D([], [], label="collision", **MARK["contact"]))
    if sections:
        handles.append(Patch(fc=style.OBSTACLE, ec=style.OBSTACLE_EDGE, label="obstacle at the height of passing"))
        handles.append(Patch(fc=style.HALO, label="+ drone radius"))
        handles.append(missed_handle())
    return handles


def missed_handle() -> Line2D:
    """Legend handle of an obstacle that the plane misses."""
    return Line2D([], [], color=style.OBSTACLE, ls=":", lw=1.2, label="obstacle above or below")
