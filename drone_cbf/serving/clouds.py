"""Clouds of any number of points in the few sizes for which the controller is compiled, on the host.

A larger cloud is thinned by direction: the sphere about the place where a command begins to act is divided into cells,
and in each cell the point stays that leaves the least room to brake, as it is there that the controller judges points;
the cells are finer where points lie in few directions. The point nearest to the drone itself stays too. What is left
does not depend on the density or repetition of the points. Costs time linear in their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.serving.observations import Request

FARTHEST = 1e6  # Distance to which points beyond it are brought, far outside any sensor's range [m]
_BLOCK = 32768  # Points thinned at once
_FINER = 2  # Cells per cell and axis while all find room: a camera sees many points in few directions
_SAMPLE = 16  # One point of so many tells in how many directions there are points
POINT, VELOCITY, SPREAD, SEEN, COLUMNS = slice(0, 3), slice(3, 6), 6, 7, 8
"""Columns of :attr:`Cloud.values`, and their number."""


@dataclass(frozen=True)
class Cloud:
    """Points of b observations in n slots, relative to an origin."""

    values: np.ndarray  # (b, n, 8) float32, columns as below; 1 in the last one: seen, 0: masked out or unused

    @property
    def points(self) -> np.ndarray:  # (b, n, 3) [m]
        return self.values[..., POINT]

    @property
    def velocities(self) -> np.ndarray:  # (b, n, 3) [m/s]
        return self.values[..., VELOCITY]

    @property
    def spread(self) -> np.ndarray:  # (b, n) [m]
        return self.values[..., SPREAD]

    @property
    def mask(self) -> np.ndarray:  # (b, n) bool
        return self.values[..., SEEN] > 0.0


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
    return Urgency(make_dynamics(physics).ahead, barrier.reaction_time, barrier.braking)


def fitted_cloud(request: Request, origin: np.ndarray, sizes: tuple[int, ...], urgency: Urgency) -> Cloud:
    """The points of ``request`` relative to ``origin`` (b, 3) [m], in the first of ``sizes`` that holds them.

    ``sizes`` ascend. What exceeds the last one is thinned to it (:func:`most_urgent_by_direction`).
    """
    count, points = request.mask.shape
    size = next((size for size in sizes if size >= points), sizes[-1])
    cloud = Cloud(np.zeros((count, size, COLUMNS), np.float32))
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
    cloud.values[row, slots, SEEN] = request.mask[row, chosen]
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
    ahead = urgency.ahead * request.velocity[row]
    acting = request.position[row] + ahead

    def thin(places: np.ndarray, cells: int) -> np.ndarray:
        """The most urgent of ``places``, and the one nearest to the drone itself."""
        whole = places[-1] - places[0] == places.size - 1
        given = slice(places[0], places[-1] + 1) if whole else places
        offset = _offset(request.points[row, given], acting)
        approach = request.velocity[row] if velocities is None else request.velocity[row] - velocities[row, given]
        spread = None if spreads is None else spreads[row, given]
        nearest = np.argmin(sum(np.square(one + way) for one, way in zip(offset, ahead, strict=True)))
        return places[np.append(most_urgent_by_direction(offset, approach, spread, urgency, cells), nearest)]

    cells = math.isqrt(size - 1)
    for finer in (_FINER * cells, cells):
        if finer > cells and thin(seen[::_SAMPLE], finer).size >= size:
            continue  # a part already takes more room than there is
        # In blocks, whose intermediate arrays stay in the processor's cache; what is most urgent is the same.
        blocks = (seen[first : first + _BLOCK] for first in range(0, seen.size, _BLOCK))
        left = thin(_once(np.concatenate([thin(block, finer) for block in blocks])), finer)
        if left.size <= size:
            break
    return _once(left)


def _once(places: np.ndarray) -> np.ndarray:
    """``places`` in order, each once (``np.unique`` hashes, which takes milliseconds)."""
    places = np.sort(places)
    return places[np.diff(places, prepend=-1) > 0]


def _offset(points: np.ndarray, place: np.ndarray) -> list[np.ndarray]:
    """Coordinates of ``points`` (n, 3) from ``place`` (3,) [m], each (n,) float32."""
    with np.errstate(over="ignore"):  # beyond float32: brought to the farthest
        offset = [(points[:, axis] - place[axis]).astype(np.float32) for axis in range(3)]
    return [np.clip(one, -FARTHEST, FARTHEST, out=one) for one in offset]


def most_urgent_by_direction(
    offset: Sequence[np.ndarray], approach: np.ndarray, spread: np.ndarray | None, urgency: Urgency, cells: int
) -> np.ndarray:
    """Places of the points that leave the least room to brake in their cell of directions.

    ``offset``, three times (n,) float32 [m]: of the points from where a command acts; ``approach`` (n, 3) or (3,)
    [m/s]: velocity of the drone relative to them. The sphere is divided into ``cells`` by ``cells``. Doubtful points
    count as nearer by their ``spread`` (n,) [m]. Of equal points one stays.
    """
    x, y, z = offset
    distance = np.sqrt(x * x + y * y + z * z)
    toward = np.asarray(approach, np.float32).T
    closing = x * toward[0] + y * toward[1] + z * toward[2]
    closing /= np.maximum(distance, np.float32(1e-6))
    room = urgency.room(distance, closing)
    return _first_of_each(_cells(x, y, z, cells), room if spread is None else room - spread, cells * cells)


def _cells(x: np.ndarray, y: np.ndarray, z: np.ndarray, count: int) -> np.ndarray:
    """Number of the cell in which each direction lies, of ``count`` by ``count``, by the octahedral map.

    That of :func:`drone_cbf.perception.directions.cell_of`, in which the lower half is folded out without branches: of
    coordinates whose sizes add up to 1, the size of one plus that of z is 1 less the size of the other. In place, where
    it can be: memory takes most of the time.
    """
    half = np.float32(0.5 * count)
    across, along, below = np.abs(x), np.abs(y), np.abs(z)
    scale = across + along
    scale += below
    np.maximum(scale, np.float32(1e-30), out=scale)
    np.divide(half, scale, out=scale)
    below -= z
    below *= np.float32(0.5)
    numbers = []
    for size, signed in ((across, x), (along, y)):
        size += below
        size *= scale
        number = (np.copysign(size, signed, out=size) + half).astype(np.int32)
        numbers.append(np.minimum(number, count - 1, out=number))
    row, column = numbers
    row *= count
    row += column
    return row.astype(np.intp)


def _first_of_each(cell: np.ndarray, ranking: np.ndarray, count: int) -> np.ndarray:
    """Place of the smallest ``ranking`` in each of ``count`` cells that has one."""
    smallest = np.full(count, np.inf, np.float32)
    np.minimum.at(smallest, cell, ranking)
    (best,) = np.nonzero(ranking <= smallest[cell])
    place = np.full(count, -1, np.int64)
    place[cell[best]] = best  # of equals one
    return place[place >= 0]
