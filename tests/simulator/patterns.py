"""In which directions the rays of a scan go: unit vectors (r, 3) in the world frame, drawn anew for every scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

BEAM_FIELD = np.radians(45.0)
"""Of a spinning scanner with beams: from so far below to so far above the horizon."""

Pattern = Callable[[int, np.random.Generator], np.ndarray]
"""(number of rays, generator) -> rays."""


def even(count: int, rng: np.random.Generator) -> np.ndarray:
    """Spread evenly over the sphere (Fibonacci), the same in every scan."""
    place = np.arange(count) + 0.5
    height = 1.0 - 2.0 * place / count
    angle = np.pi * (1.0 + np.sqrt(5.0)) * place
    flat = np.sqrt(1.0 - np.square(height))
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=-1)


def turned(count: int, rng: np.random.Generator) -> np.ndarray:
    """Spread evenly, turned at random from scan to scan."""
    return even(count, rng) @ Rotation.random(random_state=rng).as_matrix().T


def scattered(count: int, rng: np.random.Generator) -> np.ndarray:
    """Every ray on its own, uniformly over the sphere."""
    rays = rng.standard_normal((count, 3))
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def beams(number: int) -> Pattern:
    """A spinning scanner with ``number`` beams between :data:`BEAM_FIELD` below and above; it sees nothing beyond."""

    def rays(count: int, rng: np.random.Generator) -> np.ndarray:
        columns = max(1, count // number)
        azimuth = 2.0 * np.pi * (np.arange(columns) + rng.random()) / columns
        height = np.linspace(-BEAM_FIELD, BEAM_FIELD, number)
        azimuth, height = (grid.ravel() for grid in np.meshgrid(azimuth, height))
        return np.stack([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)], axis=-1)

    return rays


PATTERNS: dict[str, Pattern] = {
    "even": even,
    "turned": turned,
    "scattered": scattered,
    "beams16": beams(16),
    "beams32": beams(32),
    "beams64": beams(64),
}
