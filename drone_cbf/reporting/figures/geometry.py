"""Sections and surfaces of vertical capsules, for plane and 3-D pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drone_cbf.reporting.records import Array, Flight

HEADROOM = 0.8  # trunks are shown from this far below the lowest point of a flight to this far above its highest [m]


def section_radius(obstacles: Array, height: Array | float, grow: float = 0.0) -> Array:
    """Radius of the circle in which a horizontal plane cuts each capsule grown by ``grow``.

    ``obstacles``: rows of ``Obstacles.table()`` [m], (A, 5); ``height``: one, or one per obstacle [m]. Returns [m],
    (A,); 0 where the plane misses.
    """
    above_axis = np.maximum(np.abs(height - obstacles[:, 2]) - obstacles[:, 4], 0.0)
    return np.sqrt(np.maximum((obstacles[:, 3] + grow) ** 2 - above_axis**2, 0.0))


def passing_height(obstacles: Array, path: Array) -> Array:
    """z of the point of ``path`` (N, 3) that comes horizontally nearest to each obstacle's axis [m], (A,).

    Pictures from above cut each obstacle at this height: at a common height, a drone that climbs over a sphere would
    seem to fly through it.
    """
    offset = obstacles[:, None, :2] - path[None, :, :2]
    return path[np.argmin((offset**2).sum(-1), axis=1), 2]


def capsule_distance(obstacle: Array, points: Array) -> Array:
    """Signed distance of points (N, 3) to the surface of one row of ``Obstacles.table()`` [m], (N,)."""
    offset = points - obstacle[:3]
    offset[:, 2] -= np.clip(offset[:, 2], -obstacle[4], obstacle[4])
    return np.linalg.norm(offset, axis=-1) - obstacle[3]


def flown_points(flights: Sequence[Flight]) -> Array:
    """Every position and goal of ``flights`` [m], (N, 3)."""
    return np.concatenate([np.vstack([flight.position, flight.goal]) for flight in flights])


def visible_heights(flights: Sequence[Flight]) -> tuple[float, float]:
    """Lowest and highest z at which trunks are shown [m]."""
    heights = flown_points(flights)[:, 2]
    return float(heights.min()) - HEADROOM, float(heights.max()) + HEADROOM


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
