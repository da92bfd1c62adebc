"""Sections and surfaces of vertical capsules, for plane and 3-D pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import polyhedra
from drone_cbf.reporting.figures.polyhedra import Polyhedron
from drone_cbf.reporting.records import Flight

HEADROOM = 0.8  # trunks are shown from this far below the lowest point of a flight to this far above its highest [m]
DEEPEST_GROUND = 2.5  # ground farther than this below the lowest point of a flight is not shown [m]
REACH = 2.5  # boxes and cylinders are cut this far from the paths [m]: a long wall would make the flight small


def section_radius(obstacles: Array, height: Array | float, grow: float = 0.0) -> Array:
    """Radius of the circle in which a horizontal plane cuts each capsule grown by ``grow``.

    ``obstacles``: rows of ``Capsules.table()`` [m], (A, 5); ``height``: one, or one per obstacle [m]. Returns [m],
    (A,); 0 where the plane misses.
    """
    above_axis = np.maximum(np.abs(height - obstacles[:, 2]) - obstacles[:, 4], 0.0)
    return np.sqrt(np.maximum((obstacles[:, 3] + grow) ** 2 - above_axis**2, 0.0))


def passing_height(obstacles: Array, path: Array) -> Array:
    """z of the point of ``path`` (N, 3) that comes horizontally nearest to each obstacle's axis [m], (A,).

    ``path`` may also be one for each obstacle, (A, N, 3): as seen from an obstacle that moves. Pictures
    from above cut each obstacle at this height: at a common height, a drone that climbs over a sphere would seem to
    fly through it.
    """
    paths = np.broadcast_to(path, (len(obstacles), *path.shape[-2:]))
    offset = obstacles[:, None, :2] - paths[..., :2]
    return paths[np.arange(len(obstacles)), np.argmin((offset**2).sum(-1), axis=1), 2]


def capsule_distance(obstacle: Array, points: Array) -> Array:
    """Signed distance of points (N, 3) to the surface of one row of ``Capsules.table()`` [m], (N,)."""
    offset = points - obstacle[:3]
    offset[:, 2] -= np.clip(offset[:, 2], -obstacle[4], obstacle[4])
    return np.linalg.norm(offset, axis=-1) - obstacle[3]


def flown_points(flights: Sequence[Flight]) -> Array:
    """Every position and goal of ``flights`` [m], (N, 3)."""
    return np.concatenate([np.vstack([flight.position, flight.goal]) for flight in flights])


def flown_times(flights: Sequence[Flight]) -> tuple[Array, Array]:
    """Every position of ``flights`` [m], (N, 3), and its time [s], (N,)."""
    return np.concatenate([flight.position for flight in flights]), np.concatenate([f.times for f in flights])


def seen_from(velocity: Array, path: Array, times: Array) -> Array:
    """``path`` (N, 3) at ``times`` (N,) relative to solids with ``velocity`` (A, 3), where these are at time zero.

    Returns [m], (A, N, 3).
    """
    return path - times[:, None] * velocity[:, None]


def visible_ground(flights: Sequence[Flight]) -> float | None:
    """Height of the ground [m]; None where there is none or it lies far below the flights."""
    ground = flights[0].obstacles.ground
    lowest = float(flown_points(flights)[:, 2].min())
    return ground if ground is not None and ground > lowest - DEEPEST_GROUND else None


def visible_heights(flights: Sequence[Flight]) -> tuple[float, float]:
    """Lowest and highest z at which trunks are shown [m]; the ground is the lowest where it is visible."""
    heights, ground = flown_points(flights)[:, 2], visible_ground(flights)
    return float(heights.min()) - HEADROOM if ground is None else ground, float(heights.max()) + HEADROOM


def shown_polyhedra(flights: Sequence[Flight]) -> list[Polyhedron]:
    """Boxes and cylinders of the scene, cut to the visible heights and to ``REACH`` of the paths; moving ones whole."""
    points = flown_points(flights)
    low, high = points.min(0) - REACH, points.max(0) + REACH
    low[2], high[2] = visible_heights(flights)
    solids = polyhedra.polyhedra(flights[0].obstacles)
    cut = (solid if solid.moves else polyhedra.cut_to(solid, low, high) for solid in solids)
    return [solid for solid in cut if solid is not None]


def level_bounds(flights: Sequence[Flight]) -> tuple[Array, Array]:
    """Corners (x, y) of the rectangle around paths, capsules, and boxes and cylinders within ``REACH`` [m]."""
    path, rows = flown_points(flights)[:, :2], flights[0].obstacles.capsules.table()
    solids = polyhedra.polyhedra(flights[0].obstacles)
    corners = np.concatenate([np.zeros((0, 2)), *(solid.corners[:, :2] for solid in solids)])
    corners = np.clip(corners, path.min(0) - REACH, path.max(0) + REACH)
    points = np.concatenate([path, corners, rows[:, :2] - rows[:, 3:4], rows[:, :2] + rows[:, 3:4]])
    return points.min(0), points.max(0)


def capsule_profile(obstacle: Array, low: float, high: float, arcs: int = 6) -> Array | None:
    """Outline of a capsule as rows (z, distance from its axis) [m], bottom to top, (P, 2).

    Trunks are cut flat at ``low`` and ``high``; spheres stay whole, as half a sphere reads as another shape. None
    where a trunk lies entirely outside.
    """
    _, _, z, radius, half_height = obstacle
    angle = np.linspace(0.0, np.pi / 2.0, arcs + 1)
    cap_height, cap_distance = half_height + radius * np.sin(angle), radius * np.cos(angle)
    heights = z + np.concatenate([-cap_height[::-1], cap_height])
    distances = np.concatenate([cap_distance[::-1], cap_distance])
    if half_height == 0.0:
        return np.delete(np.column_stack([heights, distances]), arcs, axis=0)
    if heights[-1] <= low or heights[0] >= high:
        return None
    kept = (heights > low) & (heights < high)
    rows = [np.column_stack([heights[kept], distances[kept]])]
    if heights[0] < low:
        rows.insert(0, _flat_end(low, np.interp(low, heights, distances), 1.0))
    if heights[-1] > high:
        rows.append(_flat_end(high, np.interp(high, heights, distances), -1.0)[::-1])
    return np.concatenate(rows)


def _flat_end(height: float, distance: float, inward: float) -> Array:
    """Axis, rim, and a second rim just inside: smooth shading then rounds only the gap, not the whole trunk."""
    return np.array([[height, 0.0], [height, distance], [height + 0.01 * inward, distance]])


def revolve(obstacle: Array, profile: Array, sides: int = 20) -> Array:
    """Surface of revolution about the obstacle's axis: points [m], (P, sides + 1, 3), the seam closed."""
    turn = np.linspace(0.0, 2.0 * np.pi, sides + 1)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    plane = obstacle[:2] + profile[:, 1, None, None] * circle
    height = np.broadcast_to(profile[:, 0, None, None], (*plane.shape[:2], 1))
    return np.concatenate([plane, height], axis=-1)
