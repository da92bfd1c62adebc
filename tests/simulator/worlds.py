"""Random worlds of this simulator: box clutter, walls with windows, pillars and spheres; headings at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from tests.simulator.solids import FAR, Boxes, Rounds, Solids, joined

CLEAR = 0.8
"""Start and goal are at least this far from every solid [m]."""
LENGTH = 12.0
"""Of the course through clutter [m]."""
WALL = (7.0, 5.0)
"""Half width and half height of a wall [m]."""
ASIDE = 0.8
"""Distance before and behind a window of the places to fly by [m]."""


@dataclass(frozen=True)
class Worlds:
    """``w`` worlds, one flight each."""

    start: np.ndarray  # (w, 3) [m]
    goal: np.ndarray  # (w, 3) [m]
    route: np.ndarray  # (w, k, 3) Places to fly by one after the other, the goal last and repeated [m]
    boxes: Boxes  # (w, n)
    rounds: Rounds  # (w, m)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def solids(self) -> tuple[Solids, Solids]:
        return self.boxes, self.rounds

    def rows(self, index: slice) -> Worlds:
        arrays = (self.start[index], self.goal[index], self.route[index])
        return Worlds(*arrays, self.boxes.rows(index), self.rounds.rows(index))


def no_boxes(worlds: int, places: int = 0) -> Boxes:
    """Places without boxes."""
    shape = (worlds, places)
    axes = np.broadcast_to(np.eye(3), (*shape, 3, 3))
    return Boxes(centre=np.full((*shape, 3), FAR), half=np.zeros((*shape, 3)), axes=axes)


def no_rounds(worlds: int) -> Rounds:
    return Rounds(centre=np.zeros((worlds, 0, 3)), radius=np.zeros((worlds, 0)), span=np.zeros((worlds, 0, 3)))


def box_clutter(count: int, rng: np.random.Generator, places: int = 24) -> Worlds:
    """Boxes turned at random, half sides 0.1 to 1.0 m, small ones more often than large ones."""
    half = np.exp(rng.uniform(np.log(0.1), np.log(1.0), (count, places, 3)))
    axes = Rotation.random(count * places, rng).as_matrix().reshape(count, places, 3, 3)
    boxes = Boxes(centre=_scattered(count, places, rng), half=half, axes=axes)
    return _course(rng, boxes, no_rounds(count))


def pillars(count: int, rng: np.random.Generator, places: int = 18) -> Worlds:
    """Every other solid a pillar, radius 0.1 to 0.5 m, the rest spheres, radius 0.1 to 0.7 m."""
    is_pillar = np.arange(places) % 2 == 0
    radius = rng.uniform(0.1, np.where(is_pillar, 0.5, 0.7), (count, places))
    span = np.ones((count, places, 3))
    span[:, is_pillar, 2] = 0.0
    return _course(rng, no_boxes(count), Rounds(centre=_scattered(count, places, rng), radius=radius, span=span))


def windows(count: int, rng: np.random.Generator) -> Worlds:
    """One to three walls, 0.1 to 0.4 m thick and turned by up to 20 degrees, each with a window of 1.0 to 1.6 m."""
    walls, centres, normals = [], [], []
    distance = np.zeros(count)
    used = np.arange(3) < rng.integers(1, 4, (count, 1))
    for index in range(3):
        distance = distance + rng.uniform(3.0, 5.0, count)
        place = np.stack([distance, rng.uniform(-1.5, 1.5, count), rng.uniform(-1.0, 1.0, count)], axis=-1)
        axes = _about_z(rng.uniform(-np.pi / 9.0, np.pi / 9.0, count))
        opening = rng.uniform(0.5, 0.8, (count, 2))
        frame = window_frame(place, axes, opening, rng.uniform(0.05, 0.2, count))
        walls.append(frame.only(np.repeat(used[:, index, None], 4, axis=1)))
        centres.append(place)
        normals.append(axes[..., 0])
    start = np.stack([np.zeros(count), *rng.uniform(-1.5, 1.5, (2, count))], axis=-1)
    end = np.where(used, np.stack(centres, 1)[..., 0], 0.0).max(1) + rng.uniform(2.5, 3.5, count)
    goal = np.stack([end, *rng.uniform(-1.5, 1.5, (2, count))], axis=-1)
    aside = ASIDE * np.stack(normals, 1)
    by = np.stack([np.stack(centres, 1) - aside, np.stack(centres, 1) + aside], axis=2).reshape(count, 6, 3)
    by = np.where(np.repeat(used, 2, axis=1)[..., None], by, goal[:, None])
    route = np.concatenate([by, goal[:, None]], axis=1)
    return _turned(rng, Worlds(start, goal, route, joined(walls), no_rounds(count)))


def window_frame(centre: np.ndarray, axes: np.ndarray, opening: np.ndarray, half_thickness: np.ndarray) -> Boxes:
    """A wall about a window, four boxes (w, 4): left and right of it over the whole height, above and below it.

    ``centre`` (w, 3) of the window and of the wall, ``axes`` (w, 3, 3) with the wall's normal first, ``opening`` (w, 2)
    half of the window's width and height [m].
    """
    (wide, high), zero = WALL, np.zeros(len(centre))
    across, up = opening.T
    beside, above = 0.5 * (wide + across), 0.5 * (high + up)
    offsets = [(zero, beside, zero), (zero, -beside, zero), (zero, zero, above), (zero, zero, -above)]
    side = (half_thickness, 0.5 * (wide - across), zero + high)
    lid = (half_thickness, across, 0.5 * (high - up))
    offset = np.stack([np.stack(part, axis=-1) for part in offsets], axis=1)
    half = np.stack([np.stack(part, axis=-1) for part in (side, side, lid, lid)], axis=1)
    turned = offset @ np.swapaxes(axes, -1, -2)
    return Boxes(centre=centre[:, None] + turned, half=half, axes=np.repeat(axes[:, None], 4, axis=1))


FAMILIES: dict[str, Callable[[int, np.random.Generator], Worlds]] = {
    "boxes": box_clutter,
    "windows": windows,
    "pillars": pillars,
}
"""Name -> function from a number of worlds and a generator to random worlds."""


def _scattered(count: int, places: int, rng: np.random.Generator) -> np.ndarray:
    """Centres (w, n, 3) along the course through clutter."""
    return rng.uniform((2.0, -3.0, -2.0), (LENGTH - 2.0, 3.0, 2.0), (count, places, 3))


def _course(rng: np.random.Generator, boxes: Boxes, rounds: Rounds) -> Worlds:
    """A flight through clutter; solids too near to its start or goal are left out."""
    count = len(boxes.centre)
    start = np.stack([np.zeros(count), *rng.uniform(-1.5, 1.5, (2, count))], axis=-1)
    goal = np.stack([np.full(count, LENGTH), *rng.uniform(-1.5, 1.5, (2, count))], axis=-1)
    ends = np.stack([start, goal], axis=1)[:, None]
    boxes = boxes.only(boxes.distances(ends).min(-1) > CLEAR)
    rounds = rounds.only(rounds.distances(ends).min(-1) > CLEAR)
    return _turned(rng, Worlds(start, goal, goal[:, None], boxes, rounds))


def _turned(rng: np.random.Generator, worlds: Worlds) -> Worlds:
    """The worlds turned about z, each by an angle of its own: flights take every heading."""
    turn = _about_z(rng.uniform(-np.pi, np.pi, len(worlds)))
    back = np.swapaxes(turn, -1, -2)
    boxes, rounds = worlds.boxes, worlds.rounds
    return Worlds(
        start=(worlds.start[:, None] @ back)[:, 0],
        goal=(worlds.goal[:, None] @ back)[:, 0],
        route=worlds.route @ back,
        boxes=Boxes(centre=boxes.centre @ back, half=boxes.half, axes=turn[:, None] @ boxes.axes),
        rounds=Rounds(centre=rounds.centre @ back, radius=rounds.radius, span=rounds.span),
    )


def _about_z(angle: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(angle[:, None] * np.array([0.0, 0.0, 1.0])).as_matrix()
