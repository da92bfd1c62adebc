"""Clouds of any number of points in the few sizes for which the controller is compiled, on the host.

A larger cloud is thinned by direction: the sphere about the drone is divided into cells, and of each cell the nearest
point stays; the cells are finer where points lie in few directions. What is left is the nearest surface in every
direction, whatever the density or repetition of the points. Costs time linear in the number of points.
"""

import math
from typing import NamedTuple

import numpy as np

from drone_cbf.serving.observations import Request

SOON = 0.5  # Time ahead for which moving points are also ranked [s]
FARTHEST = 1e6  # Distance to which points beyond it are brought, far outside any sensor's range [m]
_BLOCK = 32768  # Points thinned at once
_FINER = 2  # Cells per cell and axis while all find room: a camera sees many points in few directions
_SAMPLE = 16  # One point of so many tells in how many directions there are points
_FACES = 6  # of the cube onto which directions are projected


class Cloud(NamedTuple):
    """Points of b observations in n slots, relative to an origin."""

    points: np.ndarray  # (b, n, 3) float32 [m]
    mask: np.ndarray  # (b, n) bool: False for unused slots
    velocities: np.ndarray  # (b, n, 3) float32 [m/s]
    spread: np.ndarray  # (b, n) float32 [m]


def fitted_cloud(request: Request, origin: np.ndarray, sizes: tuple[int, ...]) -> Cloud:
    """The points of ``request`` relative to ``origin`` (b, 3) [m], in the first of ``sizes`` that holds them.

    ``sizes`` ascend. What exceeds the last one is thinned to it (:func:`nearest_by_direction`).
    """
    count, points = request.mask.shape
    size = next((size for size in sizes if size >= points), sizes[-1])
    cloud = Cloud(
        points=np.zeros((count, size, 3), np.float32),
        mask=np.zeros((count, size), bool),
        velocities=np.zeros((count, size, 3), np.float32),
        spread=np.zeros((count, size), np.float32),
    )
    for row in range(count) if points > size else ():
        _fill(cloud, request, origin, row, _thinned(request, row, size))
    if points <= size:
        _fill(cloud, request, origin[:, None], slice(None), slice(0, points))
    return cloud


def _fill(cloud: Cloud, request: Request, origin: np.ndarray, row: int | slice, chosen: np.ndarray | slice) -> None:
    """Writes the ``chosen`` points of the observations ``row`` into their first slots."""
    points = np.clip(request.points[row, chosen] - origin[row], -FARTHEST, FARTHEST)
    slots = slice(0, points.shape[-2])
    cloud.points[row, slots] = points
    cloud.mask[row, slots] = request.mask[row, chosen]
    if request.point_velocities is not None:
        cloud.velocities[row, slots] = request.point_velocities[row, chosen]
    if request.point_spread is not None:
        cloud.spread[row, slots] = request.point_spread[row, chosen]


def _thinned(request: Request, row: int, size: int) -> np.ndarray:
    """Places of the points of one observation that stay, at most ``size``."""
    seen = np.flatnonzero(request.mask[row])
    if seen.size <= size:
        return seen
    velocities, spreads = request.point_velocities, request.point_spread
    if velocities is not None and not velocities[row].any():
        velocities = None
    cells = math.isqrt(size // (_FACES * (1 if velocities is None else 2)))

    def thin(places: np.ndarray, cells: int) -> np.ndarray:
        whole = places[-1] - places[0] == places.size - 1
        given = slice(places[0], places[-1] + 1) if whole else places
        offset = np.clip(request.points[row, given] - request.position[row], -FARTHEST, FARTHEST).astype(np.float32)
        velocity = None if velocities is None else velocities[row, given]
        spread = None if spreads is None else spreads[row, given]
        return places[nearest_by_direction(offset, velocity=velocity, spread=spread, cells=cells)]

    for finer in (_FINER * cells, cells):
        if finer > cells and thin(seen[::_SAMPLE], finer).size > size:
            continue  # a part already takes more room than there is
        # In blocks, whose intermediate arrays stay in the processor's cache; what is nearest is the same.
        blocks = (seen[first : first + _BLOCK] for first in range(0, seen.size, _BLOCK))
        left = thin(np.concatenate([thin(block, finer) for block in blocks]), finer)
        if left.size <= size:
            break
    return left


def nearest_by_direction(
    offset: np.ndarray, *, velocity: np.ndarray | None, spread: np.ndarray | None, cells: int
) -> np.ndarray:
    """Places of the points at ``offset`` (n, 3) from the drone [m] that are the nearest in their cell of directions.

    There are ``cells`` by ``cells`` on each face of a cube. Doubtful points count as nearer by their ``spread`` (n,)
    [m]. With a ``velocity`` (n, 3) [m/s] of the points, those that will be nearest after :data:`SOON` seconds stay too.
    Of equal points one stays.
    """
    x, y, z = np.ascontiguousarray(offset.T)
    distance = np.sqrt(x * x + y * y + z * z)
    rankings = [distance if spread is None else distance - spread]
    if velocity is not None:
        later = offset + np.float32(SOON) * velocity
        rankings.append(rankings[0] + np.minimum(np.sqrt(np.sum(later * later, axis=1)) - distance, 0.0))
    cell = _cells(x, y, z, cells)
    return np.unique(np.concatenate([_first_of_each(cell, ranking) for ranking in rankings]))


def _cells(x: np.ndarray, y: np.ndarray, z: np.ndarray, count: int) -> np.ndarray:
    """Number of the cell in which each direction lies, of ``count`` by ``count`` cells on each face of a cube."""
    size_x, size_y, size_z = np.abs(x), np.abs(y), np.abs(z)
    on_x = (size_x >= size_y) & (size_x >= size_z)
    on_z = ~on_x & (size_z > size_y)
    along = np.where(on_x, x, np.where(on_z, z, y))
    first, second = np.where(on_x, y, x), np.where(on_z, y, z)
    face = np.where(on_x, np.int32(2), np.where(on_z, np.int32(4), np.int32(0))) + (along > 0.0)
    scale = np.float32(0.5 * count) / np.maximum(np.abs(along), np.float32(1e-30))
    column, row = ((side * scale + np.float32(0.5 * count)).astype(np.int32) for side in (first, second))
    return (face * count + np.minimum(column, count - 1)) * count + np.minimum(row, count - 1)


def _first_of_each(cell: np.ndarray, ranking: np.ndarray) -> np.ndarray:
    """Place of the smallest ``ranking`` in each cell."""
    smallest = np.full(cell.max() + 1, np.inf, np.float32)
    np.minimum.at(smallest, cell, ranking)
    (best,) = np.nonzero(ranking <= smallest[cell])
    place = np.full(smallest.size, -1, np.int64)
    place[cell[best]] = best  # of equals one
    return place[place >= 0]
