"""Clouds of any number of points in the few sizes for which the controller is compiled, on the host.

A larger cloud is thinned by direction: the sphere about the place where a command begins to act is divided into cells,
and of each cell the point stays that leaves the least room to brake, as it is there that the controller judges points;
the cells are finer where points lie in few directions. The point nearest to the drone itself stays too. What is left
does not depend on the density or repetition of the points. Costs time linear in their number.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.serving.observations import Request

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


@dataclass(frozen=True)
class Urgency:
    """How much room a point leaves to brake."""

    ahead: float  # Time until a command acts [s]
    reaction_time: float  # [s]
    braking: float  # [m/s^2]

    def room(self, distance: np.ndarray, closing: np.ndarray) -> np.ndarray:
        """Braking margin [m] at ``distance`` [m] and closing speed [m/s], both (n,), but for the safe radius."""
        closing = np.maximum(closing, np.float32(0.0))
        return distance - closing * (np.float32(self.reaction_time) + closing * np.float32(0.5 / self.braking))


def urgency_in(system: SystemConfig) -> Urgency:
    """As the barrier of ``system`` has it."""
    physics, barrier = system.physics, system.barrier
    return Urgency(physics.delay + physics.lag_time, barrier.reaction_time, barrier.braking)


def fitted_cloud(request: Request, origin: np.ndarray, sizes: tuple[int, ...], urgency: Urgency) -> Cloud:
    """The points of ``request`` relative to ``origin`` (b, 3) [m], in the first of ``sizes`` that holds them.

    ``sizes`` ascend. What exceeds the last one is thinned to it (:func:`most_urgent_by_direction`).
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
        _fill(cloud, request, origin, row, _thinned(request, row, size, urgency))
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


def _thinned(request: Request, row: int, size: int, urgency: Urgency) -> np.ndarray:
    """Places of the points of one observation that stay, at most ``size``."""
    seen = np.flatnonzero(request.mask[row])
    if seen.size <= size:
        return seen
    velocities, spreads = request.point_velocities, request.point_spread
    acting = request.position[row] + urgency.ahead * request.velocity[row]

    def thin(places: np.ndarray, cells: int) -> np.ndarray:
        whole = places[-1] - places[0] == places.size - 1
        given = slice(places[0], places[-1] + 1) if whole else places
        offset = np.clip(request.points[row, given] - acting, -FARTHEST, FARTHEST).astype(np.float32)
        approach = request.velocity[row] if velocities is None else request.velocity[row] - velocities[row, given]
        spread = None if spreads is None else spreads[row, given]
        return places[most_urgent_by_direction(offset, approach, spread, urgency, cells)]

    cells = math.isqrt((size - 1) // _FACES)
    for finer in (_FINER * cells, cells):
        if finer > cells and thin(seen[::_SAMPLE], finer).size >= size:
            continue  # a part already takes more room than there is
        # In blocks, whose intermediate arrays stay in the processor's cache; what is most urgent is the same.
        blocks = (seen[first : first + _BLOCK] for first in range(0, seen.size, _BLOCK))
        left = thin(np.concatenate([thin(block, finer) for block in blocks]), finer)
        if left.size < size:
            break
    return np.union1d(left, _nearest(request, row))


def _nearest(request: Request, row: int) -> np.intp:
    """Place of the seen point that is nearest to the drone."""
    x, y, z = np.clip(request.points[row] - request.position[row], -FARTHEST, FARTHEST).T
    return np.argmin(np.where(request.mask[row], x * x + y * y + z * z, np.inf))


def most_urgent_by_direction(
    offset: np.ndarray, approach: np.ndarray, spread: np.ndarray | None, urgency: Urgency, cells: int
) -> np.ndarray:
    """Places of the points that leave the least room to brake in their cell of directions.

    ``offset`` (n, 3) [m]: of the points from where a command acts; ``approach`` (n, 3) or (3,) [m/s]: velocity of the
    drone relative to them. There are ``cells`` by ``cells`` on each face of a cube. Doubtful points count as nearer by
    their ``spread`` (n,) [m]. Of equal points one stays.
    """
    x, y, z = np.ascontiguousarray(offset.T)
    distance = np.sqrt(x * x + y * y + z * z)
    toward = np.broadcast_to(approach, offset.shape).T
    closing = x * toward[0] + y * toward[1] + z * toward[2]
    room = urgency.room(distance, closing / np.maximum(distance, np.float32(1e-6)))
    return _first_of_each(_cells(x, y, z, cells), room if spread is None else room - spread)


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
