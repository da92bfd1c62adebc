"""Draws obstacles, paths and markers of flights on one panel: from above, or in space from a fixed viewpoint.

In space, matplotlib orders whole artists and knows no occlusion. Paths are therefore cut into short pieces, and
everything is painted from far to near as seen from ``VIEW``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from drone_cbf.reporting.figures import geometry, style
from drone_cbf.reporting.records import Array, Flight

LABELLED_FLIGHTS = 6  # panels with more flights show no names
VIEW = {"elev": 34.0, "azim": -64.0}  # elevation and azimuth of the viewer [degree]
PIECE = 3  # steps of a path that are painted as one piece in space

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
# A zoomed scene reaches beyond its axes and must not be clipped; the layout ignores it.
_FREE = {"clip_on": False, "in_layout": False}


def speed_colours(flights: Sequence[Flight]) -> ScalarMappable:
    """One colour scale of speed [m/s] for all flights of a figure, starting at zero."""
    fastest = max(float(flight.speed.max()) for flight in flights)
    return ScalarMappable(Normalize(0.0, max(fastest, 0.1)), style.speed_scale())


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
    axes: Axes, obstacles: Array, height: Array | float, cut: Mapping = SECTION, missed: Mapping = MISSED
) -> None:
    """A circle per obstacle: with the look ``cut`` if it is at ``height``, else ``missed`` with its full radius.

    ``obstacles``: rows of ``Obstacles.table()``; ``height``: one, or one per obstacle [m].
    """
    for obstacle, radius in zip(obstacles, geometry.section_radius(obstacles, height), strict=True):
        look = {**cut, "gid": "obstacle"} if radius > 0.0 else {**missed, "gid": "cleared"}
        axes.add_patch(Circle(tuple(obstacle[:2]), radius or obstacle[3], **look))


def draw_path(axes: Axes, flight: Flight, colours: ScalarMappable) -> None:
    """Path from above coloured by speed, start, goal, steps on which the filter acted, and the collision if any."""
    pieces = _segments(flight.position[:, :2])
    if flight.collided:
        axes.add_collection(LineCollection(pieces, gid="collision", zorder=1.8, **CASING["collision"]))
    axes.add_collection(LineCollection(pieces[flight.acted], gid="acted", zorder=1.9, **CASING["acted"]))
    look = {"array": _step_speed(flight), "norm": colours.norm, "cmap": colours.cmap, "linewidths": 2.0}
    axes.add_collection(LineCollection(pieces, gid="path", capstyle="round", zorder=2.0, **look))
    for order, (name, point) in enumerate(_marks(flight).items()):
        axes.plot(*point[:2], gid=name, zorder=2.6 + 0.1 * order, **MARK[name])


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
    axes.set_title(text, color=style.COLLISION if collisions else style.INK)


def name_starts(axes: Axes, flights: Sequence[Flight]) -> None:
    """Names beside the starts if several, but few, flights share a panel; red for a collision."""
    for flight in flights if 1 < len(flights) <= LABELLED_FLIGHTS else ():
        look = {"color": style.COLLISION if flight.collided else style.INK, "size": style.SMALL, "va": "bottom"}
        text = axes.annotate(flight.name, flight.position[0, :2], (5, 4), textcoords="offset points", zorder=3, **look)
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
        handles += [Patch(fc=style.HALO, label="+ drone radius"), missed_handle()]
    return handles


def missed_handle() -> Line2D:
    """Legend handle of an obstacle that the plane misses."""
    return Line2D([], [], color=style.OBSTACLE, ls=":", lw=1.2, label="obstacle above or below")


def draw_surfaces(axes: Axes3D, flights: Sequence[Flight], heights: tuple[float, float]) -> Array:
    """Obstacles of the scene as surfaces (one collection each, gid "obstacle"); returns their points [m], (N, 3)."""
    points = [np.zeros((0, 3))]
    for obstacle in flights[0].obstacles.table():
        profile = geometry.capsule_profile(obstacle, *heights)
        if profile is None:
            continue
        grid = geometry.revolve(obstacle, profile)
        points.append(grid.reshape(-1, 3))
        corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
        faces = np.stack(corners, axis=2).reshape(-1, 4, 3)
        # Edges in the face's colour: without them, hairline gaps show between the faces.
        look = {"facecolors": _shaded(faces), "edgecolors": _shaded(faces), "linewidths": 0.3, "gid": "obstacle"}
        axes.add_collection3d(Poly3DCollection(faces, zorder=_nearness(points[-1]), **look, **_FREE))
    return np.concatenate(points)


def draw_path_in_space(axes: Axes3D, flight: Flight, colours: ScalarMappable, floor: float) -> None:
    """Path coloured by speed with its shadow on the floor, start, goal, filter and collision marks."""
    axes.plot(*flight.position[:, :2].T, floor, color=style.MUTED, lw=0.9, alpha=0.6, gid="shadow", zorder=1.0, **_FREE)
    pieces, speed = _segments(flight.position), _step_speed(flight)

    def draw(segments: Array, gid: str, order: float, **look: object) -> None:
        axes.add_collection3d(Line3DCollection(segments, gid=gid, zorder=order, **_FREE, **look))

    for begin in range(0, flight.steps, PIECE):
        part = slice(begin, begin + PIECE)
        order = _nearness(pieces[part].reshape(-1, 3))
        if flight.collided:
            draw(pieces[part], "collision", order - 2e-6, **CASING["collision"])
        if flight.acted[part].any():
            draw(pieces[part][flight.acted[part]], "acted", order - 1e-6, **CASING["acted"])
        look = {"array": speed[part], "norm": colours.norm, "cmap": colours.cmap, "linewidths": 2.0}
        draw(pieces[part], "path", order, **look)
    for name, point in _marks(flight).items():
        # Always on top: start, goal and contact must stay visible.
        axes.plot(*point[:, None], gid=name, zorder=2000.0, **_FREE, **MARK[name])


def frame_space(axes: Axes3D, flights: Sequence[Flight], surfaces: Array, heights: tuple[float, float]) -> None:
    """Equal scale on the three axes; limits contain paths and obstacles [m]."""
    points = np.concatenate([surfaces, geometry.flown_points(flights)])
    low, high = points.min(0) - 0.1, points.max(0) + 0.1
    low[2], high[2] = min(low[2], heights[0]), max(high[2], heights[1])
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.18)
    axes.set(xlabel="x [m]", ylabel="y [m]", zlabel="z [m]")
    axes.view_init(**VIEW)
    axes.zaxis.labelpad = -4.0
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.set_major_locator(style.few_ticks(2 if axis is axes.zaxis else 4))


def _segments(position: Array) -> Array:
    """The path as one segment per step, (T, 2, dimensions)."""
    return np.stack([position[:-1], position[1:]], axis=1)


def _step_speed(flight: Flight) -> Array:
    """Mean speed of each step [m/s], (T,)."""
    return 0.5 * (flight.speed[:-1] + flight.speed[1:])


def _marks(flight: Flight) -> dict[str, Array]:
    """Marked positions by name [m], (3,) each: start, goal, and the first contact of a collided flight."""
    found = {"start": flight.position[0], "goal": flight.goal}
    if flight.collided:  # without a negative clearance, the step of the smallest
        gap = np.where(np.isnan(flight.clearance), np.inf, flight.clearance)
        found["contact"] = flight.position[np.argmax(gap < 0.0) if (gap < 0.0).any() else np.argmin(gap)]
    return found


def _nearness(points: Array) -> float:
    """Painting order of points (N, 3), by their mean: larger is nearer to the viewer, above the floor's order of 1."""
    elevation, azimuth = np.deg2rad(VIEW["elev"]), np.deg2rad(VIEW["azim"])
    level = np.cos(elevation)
    towards = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
    return float(1000.0 + points.mean(0) @ towards)


def _shaded(faces: Array) -> Array:
    """Colour of each face (F, 4, 3) under a light from above left, (F, 3)."""
    # The outward normal from the diagonals: at a pole two corners coincide, so that an edge may have no length.
    normal = np.cross(faces[:, 3] - faces[:, 1], faces[:, 2] - faces[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    light = np.clip(normal @ np.array([-0.41, -0.41, 0.81]), -1.0, 1.0)
    return np.clip((0.84 + 0.26 * light)[:, None] * np.array(to_rgb(style.OBSTACLE)) + 0.08, 0.0, 1.0)
