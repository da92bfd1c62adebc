"""Problems at the limits of float32: every entry drawn from whatever a caller could send, and ties of all of them."""

from __future__ import annotations

import numpy as np

from tests.safety.reference import Problems

LARGEST = float(np.finfo(np.float32).max)
SPECIAL = np.array([0.0, -0.0, 1.0, 9.0, 1e-45, 1e-40, 1.1754944e-38, 1e-20, 1e-12, 1e-3, LARGEST])
"""Zero, one, limits, denormals, the smallest normal number, what the filter treats as none, and the largest number."""


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], decades: tuple[float, float]) -> np.ndarray:
    """Numbers of either sign, of sizes over ``decades``; a quarter of them special, within the upper decade."""
    size = 10.0 ** rng.uniform(*decades, shape)
    special = SPECIAL[rng.integers(0, len(SPECIAL), shape)]
    special = np.where(special > 10.0 ** decades[1], 10.0 ** decades[1], special)
    size = np.where(rng.random(shape) < 0.25, special, size)
    return np.clip(size, 0.0, LARGEST) * rng.choice([-1.0, 1.0], shape)


def extreme_problems(n: int, seed: int, row: float = 38.53, command: float = 38.53) -> Problems:
    """Rows up to 10^``row`` and commands up to 10^``command`` m/s^2, float32.

    Half have ordinary commands, half ordinary rows, a fifth of the offsets is what some admissible command just reaches
    or misses, and coefficients, limits and nominal commands are tied in a fifth each.
    """
    rng = np.random.default_rng(seed)
    ordinary = rng.random((2, n)) < 0.5
    normal = np.where(ordinary[0][:, None], _drawn(rng, (n, 3), (-4.0, 1.0)), _drawn(rng, (n, 3), (-45.0, row)))
    ends = np.where(
        ordinary[1][:, None, None], _drawn(rng, (n, 3, 2), (0.0, 1.0)), _drawn(rng, (n, 3, 2), (-45.0, command))
    )
    lower, upper = ends.min(-1), ends.max(-1)
    nominal = np.where(ordinary[1][:, None], _drawn(rng, (n, 3), (-1.0, 1.2)), _drawn(rng, (n, 3), (-45.0, command)))
    tied = rng.random((4, n, 1)) < 0.2
    normal = np.where(tied[0], np.abs(normal[:, :1]) * np.sign(normal), normal)
    upper = np.where(tied[1] & (rng.random((n, 3)) < 0.5), lower, upper)
    nominal = np.where(tied[2], np.where(rng.random((n, 3)) < 0.5, lower, upper), nominal)
    nominal = np.where(tied[3], nominal[:, :1], nominal)
    normal, lower, upper, nominal = (np.float32(x).astype(np.float64) for x in (normal, lower, upper, nominal))
    largest = np.maximum(normal * lower, normal * upper).sum(axis=1)
    least = (normal * np.clip(nominal, lower, upper)).sum(axis=1)
    reached = least + rng.choice([0.0, 1e-6, 0.5, 1.0 - 1e-6, 1.0, 1.0 + 1e-6, 1.5], n) * (largest - least)
    offset = np.where(rng.random(n) < 0.6, reached, _drawn(rng, (n,), (-45.0, row)))
    offset = np.clip(offset, -LARGEST, LARGEST)
    return Problems(normal, offset, nominal, lower, upper).astype(np.float32)
