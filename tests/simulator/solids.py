"""Solids with closed forms for signed distance and for the first hit of a ray: oriented boxes, spheres, pillars.

Solids lie along the leading axes, written ``...``; both forms are evaluated for many solids at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

FAR = 1e6
"""Where places that hold no solid lie, on each axis [m]: out of sight and reach of every flight."""
TINY = 1e-290
"""Replaces a ray's zero component: quotients stay finite, and keep the sign that decides inside or outside."""


@dataclass(frozen=True)
class Solids(ABC):
    """What boxes and round solids have in common."""

    centre: np.ndarray  # (..., 3) [m]

    @abstractmethod
    def distances(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (..., s) of ``points`` (..., s, 3) to the surface of each solid, negative inside [m]."""

    @abstractmethod
    def hits(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Distance (..., r) from ``origin`` (..., 3) along unit ``rays`` (r, 3); inf: missed, 0: from inside [m]."""

    def rows(self, index: Any) -> Self:
        """The solids at ``index`` of the leading axes."""
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def only(self, kept: np.ndarray) -> Self:
        """The solids where ``kept`` is true; the others are moved far away."""
        return replace(self, centre=np.where(kept[..., None], self.centre, FAR))


@dataclass(frozen=True)
class Boxes(Solids):
    """Boxes turned about their centres."""

    half: np.ndarray  # (..., 3) Half of each side, along the box's own axes [m]
    axes: np.ndarray  # (..., 3, 3) Columns are the box's own axes

    def distances(self, points: np.ndarray) -> np.ndarray:
        beyond = np.abs((points - self.centre[..., None, :]) @ self.axes) - self.half[..., None, :]
        outside = np.sqrt(np.square(np.maximum(beyond, 0.0)).sum(-1))
        return outside + np.minimum(beyond.max(-1), 0.0)

    def hits(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """On each axis the ray is between the two faces from ``middle - spread`` to ``middle + spread``."""
        start = ((origin - self.centre)[..., None, :] @ self.axes)[..., 0, :]
        directions = np.swapaxes(self.axes, -1, -2) @ rays.T  # (..., 3, r)
        shape = (*start.shape[:-1], len(rays))
        enter, leave = np.zeros(shape), np.full(shape, np.inf)
        for axis in range(3):
            along = directions[..., axis, :]
            inverse = 1.0 / np.where(along == 0.0, TINY, along)
            middle = inverse * -start[..., axis, None]
            spread = np.abs(inverse, out=inverse) * self.half[..., axis, None]
            np.maximum(enter, middle - spread, out=enter)
            np.minimum(leave, middle + spread, out=leave)
        return np.where(enter <= leave, enter, np.inf)


@dataclass(frozen=True)
class Rounds(Solids):
    """Spheres, and pillars: spheres stretched without end along z."""

    radius: np.ndarray  # (...,) [m]
    span: np.ndarray  # (..., 3) Axes that count for the distance: (1, 1, 1) for a sphere, (1, 1, 0) for a pillar

    def distances(self, points: np.ndarray) -> np.ndarray:
        offset = (points - self.centre[..., None, :]) * self.span[..., None, :]
        return np.sqrt(np.square(offset).sum(-1)) - self.radius[..., None]

    def hits(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """The smaller root t of |start + t ray| = radius, over the axes that count."""
        start = (origin - self.centre) * self.span
        square = self.span @ np.square(rays).T
        product = start @ rays.T
        excess = np.square(start).sum(-1, keepdims=True) - np.square(self.radius)[..., None]
        root = np.square(product) - square * excess
        first = (-product - np.sqrt(np.maximum(root, 0.0))) / np.maximum(square, TINY)
        return np.where(excess <= 0.0, 0.0, np.where((root >= 0.0) & (product < 0.0), first, np.inf))


def joined(parts: list[Boxes]) -> Boxes:
    """The boxes of each world, one after the other: (w, n) and (w, m) to (w, n + m)."""
    names = [field.name for field in fields(Boxes)]
    return Boxes(**{name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names})
