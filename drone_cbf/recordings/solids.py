"""The obstacles of a flight as the primitives that viewers draw: balls, upright capsules, boxes and cylinders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.obstacles import Obstacles
from drone_cbf.reporting.records import Flight

BEYOND = 3.0
"""Ground and trunks are drawn this far beyond the flight [m]."""
THIN = 0.02  # Thickness of the drawn ground [m]


@dataclass(frozen=True, eq=False)
class Solid:
    """One primitive at time zero, world frame."""

    name: str
    """Distinct within a flight."""
    kind: Literal["capsule", "box", "cylinder", "ground"]
    centre: Array
    """[m], (3,)."""
    orientation: Array
    """Unit quaternion (x, y, z, w) from its own axes to the world; the axis of a capsule or cylinder is its own z."""
    size: Array
    """Extents along its own axes [m], (3,): of a capsule with its round ends."""
    velocity: Array
    """Constant [m/s], (3,)."""

    @property
    def moves(self) -> bool:
        """Whether it is elsewhere later."""
        return bool(self.velocity.any())


def solids_of(flight: Flight) -> list[Solid]:
    """All active obstacles of ``flight`` and the ground; trunks and ground end :data:`BEYOND` the flight."""
    path = np.concatenate([flight.position, flight.goal[None]])
    low, high = path.min(0) - BEYOND, path.max(0) + BEYOND
    obstacles = flight.obstacles
    found = [*_capsules(obstacles, low[2], high[2]), *_boxes(obstacles), *_cylinders(obstacles)]
    if obstacles.ground is not None:
        size = np.array([*(high - low)[:2], THIN])
        centre = np.array([*(low + high)[:2] / 2.0, obstacles.ground - THIN / 2.0])
        found.append(Solid("ground", "ground", centre, np.array([0.0, 0.0, 0.0, 1.0]), size, np.zeros(3)))
    return found


def _capsules(obstacles: Obstacles, low: float, high: float) -> Iterator[Solid]:
    shape = obstacles.capsules
    for index in np.flatnonzero(shape.active):
        (x, y, z), radius, half = shape.centre[index], shape.radius[index], shape.half_height[index]
        # A trunk may be a kilometre long, which no viewer frames; what is out of sight vertically stays as it is.
        bottom, top = max(z - half, low), min(z + half, high)
        if bottom > top:
            bottom, top = z - half, z + half
        size = np.array([2.0 * radius, 2.0 * radius, top - bottom + 2.0 * radius])
        centre = np.array([x, y, (bottom + top) / 2.0])
        upright = np.array([0.0, 0.0, 0.0, 1.0])
        yield Solid(f"capsule_{index}", "capsule", centre, upright, size, shape.velocity[index])


def _boxes(obstacles: Obstacles) -> Iterator[Solid]:
    shape = obstacles.boxes
    for index in np.flatnonzero(shape.active):
        turned = Rotation.from_matrix(shape.rotation[index]).as_quat()
        size = 2.0 * shape.half_size[index]
        yield Solid(f"box_{index}", "box", shape.centre[index], turned, size, shape.velocity[index])


def _cylinders(obstacles: Obstacles) -> Iterator[Solid]:
    shape = obstacles.cylinders
    for index in np.flatnonzero(shape.active):
        lying = Rotation.from_euler("ZY", [shape.heading[index], np.pi / 2.0]).as_quat()
        width = 2.0 * shape.radius[index]
        size = np.array([width, width, 2.0 * shape.half_length[index]])
        yield Solid(f"cylinder_{index}", "cylinder", shape.centre[index], lying, size, shape.velocity[index])
