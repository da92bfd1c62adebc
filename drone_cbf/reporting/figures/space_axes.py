"""Draws obstacles and paths of flights in space on one panel, from a fixed viewpoint.

Matplotlib orders whole artists and knows no occlusion. Paths are therefore cut into short pieces, and everything is
painted from far to near as seen from ``VIEW``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from drone_cbf.reporting.figures import geometry, style
from drone_cbf.reporting.figures.scene_axes import CASING, MARK, marks, segments, step_speed
from drone_cbf.reporting.records import Array, Flight

VIEW = {"elev": 34.0, "azim": -64.0}
"""Elevation and azimuth of the viewer [degree]."""
PIECE = 3
"""Steps of a path that are painted as one piece."""


# A zoomed scene reaches beyond its axes and must not be clipped; the layout ignores it.
_FREE = {"clip_on": False, "in_layout": False}


def nearness(points: Array) -> Array:
    """Painting order of points (..., 3): larger is nearer to the viewer; always above the floor's order of 1."""
    elevation, azimuth = np.deg2rad(VIEW["elev"]), np.deg2rad(VIEW["azim"])
    level = np.cos(elevation)
    return 1000.0 + points @ np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])


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
        order = float(nearness(points[-1].mean(0)))
        axes.add_collection3d(Poly3DCollection(faces, zorder=order, **look, **_FREE))
    return np.concatenate(points)


def draw_path(axes: Axes3D, flight: Flight, colours: ScalarMappable, floor: float) -> None:
    """Path coloured by speed with its shadow on the floor, start, goal, filter and collision marks."""
    axes.plot(*flight.position[:, :2].T, floor, color=style.MUTED, lw=0.9, alpha=0.6, gid="shadow", zorder=1.0, **_FREE)
    pieces, speed = segments(flight, 3), step_speed(flight)
    for begin in range(0, flight.steps, PIECE):
        part = slice(begin, begin + PIECE)
        order = float(nearness(pieces[part].reshape(-1, 3).mean(0)))
        if flight.collided:
            _line(axes, pieces[part], "collision", order - 2e-6, **CASING["collision"])
        if flight.acted[part].any():
            _line(axes, pieces[part][flight.acted[part]], "acted", order - 1e-6, **CASING["acted"])
        _line(
            axes, pieces[part], "path", order, array=speed[part], norm=colours.norm, cmap=colours.cmap, linewidths=2.0
        )
    for name, point in marks(flight).items():
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


def _line(axes: Axes3D, pieces: Array, gid: str, order: float, **look: object) -> None:
    axes.add_collection3d(Line3DCollection(pieces, gid=gid, zorder=order, **_FREE, **look))


def _shaded(faces: Array) -> Array:
    """Colour of each face (F, 4, 3) under a light from above left, (F, 3)."""
    # The outward normal from the diagonals: at a pole two corners coincide, so that an edge may have no length.
    normal = np.cross(faces[:, 3] - faces[:, 1], faces[:, 2] - faces[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    light = np.clip(normal @ np.array([-0.41, -0.41, 0.81]), -1.0, 1.0)
    return np.clip((0.84 + 0.26 * light)[:, None] * np.array(to_rgb(style.OBSTACLE)) + 0.08, 0.0, 1.0)
