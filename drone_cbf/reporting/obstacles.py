"""Obstacles of figures by shape: plain numpy records in SI units, world frame, z up, as they are at time zero.

Every shape may be absent (no slots). A slot that is not ``active`` is unused and never drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from drone_cbf.reporting.fields import Array, settle

ROTATION_TOLERANCE = 1e-4  # of a rotation computed in float32


def _still() -> Array:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class Capsules:
    """M vertical capsules: all points within ``radius`` of the segment ``centre`` +- ``half_height`` along z."""

    centre: Array
    """Middle of each segment, world frame [m], (M, 3)."""
    radius: Array
    """[m], (M,), positive where active."""
    half_height: Array
    """Half length of the segment [m], (M,): 0 is a sphere, large a tree trunk."""
    active: npt.NDArray[np.bool_]
    """(M,)"""
    velocity: Array = field(default_factory=_still)
    """Constant, world frame [m/s], (M, 3), or one for all, (3,)."""

    def __post_init__(self) -> None:
        _settle_shape(self, "Capsules", {"radius": (), "half_height": ()}, positive="radius")
        if (self.half_height[self.active] < 0.0).any():
            raise ValueError("Capsules: half_height must be >= 0 where active; 0 is a sphere")

    def table(self) -> Array:
        """The active capsules as rows (x, y, z, radius, half_height) [m], (A, 5)."""
        return np.column_stack([self.centre, self.radius, self.half_height])[self.active]


@dataclass(frozen=True, eq=False)
class Boxes:
    """B solid boxes, each turned about its centre."""

    centre: Array
    """World frame [m], (B, 3)."""
    half_size: Array
    """Half of each side along the box's own axes [m], (B, 3), positive where active."""
    rotation: Array
    """Columns are the box's own axes in the world frame, (B, 3, 3)."""
    active: npt.NDArray[np.bool_]
    """(B,)"""
    velocity: Array = field(default_factory=_still)
    """Constant, world frame [m/s], (B, 3), or one for all, (3,)."""

    def __post_init__(self) -> None:
        _settle_shape(self, "Boxes", {"half_size": (3,), "rotation": (3, 3)}, positive="half_size")
        turned = self.rotation[self.active]
        if (np.abs(turned @ turned.transpose(0, 2, 1) - np.eye(3)) > ROTATION_TOLERANCE).any():
            raise ValueError("Boxes: columns of rotation must be orthonormal where active; pass rotation matrices")


@dataclass(frozen=True, eq=False)
class Cylinders:
    """C solid cylinders with horizontal axes and flat ends."""

    centre: Array
    """World frame [m], (C, 3)."""
    heading: Array
    """Direction of the axis in the horizontal plane, from x towards y [rad], (C,)."""
    half_length: Array
    """[m], (C,), positive where active."""
    radius: Array
    """[m], (C,), positive where active."""
    active: npt.NDArray[np.bool_]
    """(C,)"""
    velocity: Array = field(default_factory=_still)
    """Constant, world frame [m/s], (C, 3), or one for all, (3,)."""

    def __post_init__(self) -> None:
        _settle_shape(self, "Cylinders", {"heading": (), "half_length": (), "radius": ()}, positive="radius")
        if (self.half_length[self.active] <= 0.0).any():
            raise ValueError("Cylinders: half_length must be > 0 where active; clear `active` for unused slots")


Shape = Capsules | Boxes | Cylinders
AnyShape = TypeVar("AnyShape", Capsules, Boxes, Cylinders)


def _no_capsules() -> Capsules:
    return Capsules(np.zeros((0, 3)), np.zeros(0), np.zeros(0), np.zeros(0, bool))


def _no_boxes() -> Boxes:
    return Boxes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, bool))


def _no_cylinders() -> Cylinders:
    return Cylinders(np.zeros((0, 3)), np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, bool))


@dataclass(frozen=True, eq=False)
class Obstacles:
    """The solids of a scene by shape, and the ground."""

    capsules: Capsules = field(default_factory=_no_capsules)
    boxes: Boxes = field(default_factory=_no_boxes)
    cylinders: Cylinders = field(default_factory=_no_cylinders)
    ground: float | None = None
    """Solid below this height [m]; None: no ground."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Capsules, boxes, cylinders."""
        return self.capsules, self.boxes, self.cylinders

    @property
    def centres(self) -> Array:
        """Of the active solids [m], (A, 3)."""
        return np.concatenate([shape.centre[shape.active] for shape in self.shapes])

    def at(self, time: float) -> Obstacles:
        """The obstacles at ``time`` [s]."""
        return replace(
            self,
            capsules=_moved(self.capsules, time),
            boxes=_moved(self.boxes, time),
            cylinders=_moved(self.cylinders, time),
        )

    def same_as(self, other: Obstacles) -> bool:
        """Whether the active obstacles are equal, slot by slot."""
        return self.key() == other.key()

    def key(self) -> bytes:
        """The same for two records whose active obstacles are equal, slot by slot."""
        values = [np.array([np.nan if self.ground is None else self.ground, *self._counts()])]
        for shape in self.shapes:
            values += [np.ravel(getattr(shape, name)[shape.active]) for name in vars(shape)]
        # Adding zero makes a zero of either sign the same bytes.
        return (np.concatenate(values).astype(float) + 0.0).tobytes()

    def _counts(self) -> list[int]:
        return [int(shape.active.sum()) for shape in self.shapes]


def _moved(shape: AnyShape, time: float) -> AnyShape:
    return replace(shape, centre=shape.centre + shape.velocity * time)


def _settle_shape(shape: Shape, owner: str, sizes: dict[str, tuple[int, ...]], positive: str) -> None:
    """Arrays of one length; where active everything is finite, and ``positive`` is above zero."""
    count = np.shape(shape.centre)[0] if np.ndim(shape.centre) else 0
    if np.shape(shape.velocity) == (3,):
        object.__setattr__(shape, "velocity", np.tile(np.asarray(shape.velocity, float), (count, 1)))
    sizes = {"centre": (3,), "velocity": (3,), **sizes}
    settle(shape, owner, {name: (count, *size) for name, size in sizes.items()})
    settle(shape, owner, {"active": (count,)}, bool)
    if not all(np.isfinite(getattr(shape, name)[shape.active]).all() for name in sizes):
        raise ValueError(f"{owner}: active obstacles must be finite; clear `active` for unused slots")
    if (getattr(shape, positive)[shape.active] <= 0.0).any():
        raise ValueError(f"{owner}: active obstacles need {positive} > 0; clear `active` for unused slots")
