"""Draws a scene and paths on one panel in space, from a fixed viewpoint.

matplotlib orders whole artists and knows no occlusion. Paths and large obstacles are therefore cut into short pieces,
and everything is painted from far to near as seen from ``VIEW``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import geometry, polyhedra, style
from drone_cbf.reporting.figures.polyhedra import Polyhedron
from drone_cbf.reporting.figures.scene_axes import CASING, MARK, MOTION, marks, segments, step_speed
from drone_cbf.reporting.records import Flight

VIEW = {"elev": 34.0, "azim": -64.0}  # elevation and azimuth of the viewer [degree]
PIECE = 3  # steps of a path that are painted as one piece
TILE = 0.6  # largest side of a piece of a face [m]

# A zoomed scene reaches beyond its axes and must not be clipped; the layout ignores it.
_FREE = {"clip_on": False, "in_layout": False}


def draw_surfaces(axes: Axes3D, flights: Sequence[Flight], heights: tuple[float, float]) -> Array:
    """Obstacles of the scene at time zero as surfaces (gid "obstacle"), with arrows where they move.

    Returns their points [m], (N, 3).
    """
    obstacles, points = flights[0].obstacles, [np.zeros((0, 3))]
    for obstacle in obstacles.capsules.table():
        profile = geometry.capsule_profile(obstacle, *heights)
        if profile is None:
            continue
        grid = geometry.revolve(obstacle, profile)
        points.append(grid.reshape(-1, 3))
        corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
        faces = np.stack(corners, axis=2).reshape(-1, 4, 3)
        # The outward normal from the diagonals: at a pole two corners coincide, so that an edge may have no length.
        normal = np.cross(faces[:, 3] - faces[:, 1], faces[:, 2] - faces[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        _draw_faces(axes, list(faces), normal, _nearness(points[-1]))
    for solid in geometry.shown_polyhedra(flights):
        points.append(solid.corners)
        _draw_polyhedron(axes, solid)
    for shape in obstacles.shapes:
        moving = shape.active & shape.velocity.any(-1)
        _draw_motion(axes, shape.centre[moving], shape.velocity[moving] * max(flight.times[-1] for flight in flights))
    return np.concatenate(points)


def draw_ground(axes: Axes3D, flights: Sequence[Flight]) -> None:
    """The ground under the panel (gid "ground") if it is near the flights; after the limits are set."""
    height = geometry.visible_ground(flights)
    if height is not None:
        (left, right), (front, back) = axes.get_xlim(), axes.get_ylim()
        corners = [[left, front, height], [right, front, height], [right, back, height], [left, back, height]]
        look = {"facecolors": style.GROUND, "edgecolors": "none", "gid": "ground", "zorder": 0.9}
        axes.add_collection3d(Poly3DCollection([corners], **look, **_FREE))


def draw_path_in_space(axes: Axes3D, flight: Flight, colours: ScalarMappable, floor: float) -> None:
    """Path coloured by speed with its shadow on the floor, start, goal, filter and collision marks."""
    axes.plot(*flight.position[:, :2].T, floor, color=style.MUTED, lw=0.9, alpha=0.6, gid="shadow", zorder=1.0, **_FREE)
    pieces, speed = segments(flight.position), step_speed(flight)

    def draw(lines: Array, gid: str, order: float, **look: object) -> None:
        axes.add_collection3d(Line3DCollection(lines, gid=gid, zorder=order, **_FREE, **look))

    for begin in range(0, flight.steps, PIECE):
        part = slice(begin, begin + PIECE)
        order = _nearness(pieces[part].reshape(-1, 3))
        if flight.collided:
            draw(pieces[part], "collision", order - 2e-6, **CASING["collision"])
        if flight.acted[part].any():
            draw(pieces[part][flight.acted[part]], "acted", order - 1e-6, **CASING["acted"])
        look = {"array": speed[part], "norm": colours.norm, "cmap": colours.cmap, "linewidths": 2.0}
        draw(pieces[part], "path", order, **look)
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


def _draw_polyhedron(axes: Axes3D, solid: Polyhedron) -> None:
    """The faces towards the viewer in tiles, those of one neighbourhood as one artist: a path may lie between two."""
    groups: dict[tuple[int, ...], list[tuple[Array, Array]]] = {}
    for face in solid.faces:
        normal = polyhedra.normal_of(face)
        # With the faces behind, a thin wall's back would be painted over its front where tiles overlap.
        if normal @ _towards() <= 0.0:
            continue
        for tile in polyhedra.tiles(face, TILE):
            cell = tuple(np.floor(tile.mean(0) / TILE).astype(int).tolist())
            groups.setdefault(cell, []).append((tile, normal))
    for members in groups.values():
        tiles, normals = zip(*members, strict=True)
        _draw_faces(axes, list(tiles), np.array(normals), _nearness(np.concatenate(tiles)))


def _draw_faces(axes: Axes3D, faces: Sequence[Array], normals: Array, order: float) -> None:
    """Faces (k, 3) with their outward normals (F, 3) as one artist."""
    colours = _shaded(normals)
    # Edges in the face's colour: without them, hairline gaps show between the faces.
    look = {"facecolors": colours, "edgecolors": colours, "linewidths": 0.3, "gid": "obstacle"}
    # No limits from them: where faces differ in their number of corners, matplotlib fills up with uninitialised memory,
    # and would take limits from that as well, infinite ones now and then. frame_space sets the limits.
    axes.add_collection3d(Poly3DCollection(faces, zorder=order, **look, **_FREE), autolim=False)


def _draw_motion(axes: Axes3D, begin: Array, motion: Array) -> None:
    """A line from each centre (N, 3) along its motion (N, 3), with a ring at its end (gid "motion")."""
    for start, way in zip(begin, motion, strict=True):
        path = np.stack([start, start + way])
        axes.plot(*path.T, gid="motion", zorder=1999.0, markevery=[1], **MOTION, **_FREE)


def _towards() -> Array:
    """Unit vector from the scene to the viewer, (3,)."""
    elevation, azimuth = np.deg2rad(VIEW["elev"]), np.deg2rad(VIEW["azim"])
    level = np.cos(elevation)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])


def _nearness(points: Array) -> float:
    """Painting order of points (N, 3), by their mean: larger is nearer to the viewer, above the floor's order of 1."""
    return float(1000.0 + points.mean(0) @ _towards())


def _shaded(normals: Array) -> Array:
    """Colour of faces with unit normals (F, 3) under a light from above left, (F, 3)."""
    light = np.clip(normals @ np.array([-0.41, -0.41, 0.81]), -1.0, 1.0)
    return np.clip((0.84 + 0.26 * light)[:, None] * np.array(to_rgb(style.OBSTACLE)) + 0.08, 0.0, 1.0)
