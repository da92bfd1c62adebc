"""Random problems of the safety filter, with their answers and gradients in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT = np.array([9.0, 9.0, 7.0])
"""Largest command along each axis [m/s^2]."""
PENALTY = 1000.0
"""Weight of the slack of a row whose largest coefficient is 1."""
NEAR = 1e-3
"""So near to where the active limits change [m/s^2] a gradient in float32 may be that of the other side."""


@dataclass(frozen=True)
class Problems:
    """n problems, float32: min 0.5 |u - nominal|^2 + penalty * slack, normal . u + slack >= offset, |u| <= LIMIT."""

    normal: np.ndarray
    """(n, 3)"""
    offset: np.ndarray
    """(n,)"""
    nominal: np.ndarray
    """(n, 3) [m/s^2]"""

    def size(self) -> np.ndarray:
        """Largest coefficient of every row, (n,)."""
        return np.asarray(np.abs(self.normal.astype(float)).max(axis=1))

    def scaled(self) -> Problems:
        """In float64, with the largest coefficient of every row 1: as the penalty is meant."""
        size = self.size()
        return Problems(self.normal / size[:, None], self.offset / size, self.nominal.astype(float))


@dataclass(frozen=True)
class Answers:
    """In float64."""

    command: np.ndarray
    """(n, 3) [m/s^2]"""
    gradient: np.ndarray
    """Of |u|^2 with respect to nominal (3) and offset, (n, 4)."""
    is_smooth: np.ndarray
    """Whether the gradient is that of a whole neighbourhood, (n,)."""


def random_problems(n: int, seed: int) -> Problems:
    """Rows of every size, from already met to just out of reach."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(n, 3))
    normal *= 10 ** rng.uniform(-2.0, 1.0, (n, 1)) / np.abs(normal).max(axis=1, keepdims=True)
    nominal = rng.uniform(-12.0, 12.0, (n, 3))
    now = np.sum(normal * np.clip(nominal, -LIMIT, LIMIT), axis=1)
    largest = np.sum(np.abs(normal) * LIMIT, axis=1)
    offset = now + rng.uniform(-0.2, 1.1, n) * (largest - now)
    return Problems(*(x.astype(np.float32) for x in (normal, offset, nominal)))


def multipliers(problems: Problems) -> np.ndarray:
    """Of the scaled rows, by bisection to the last bit, (n,)."""
    scaled = problems.scaled()

    def reached(multiplier: np.ndarray) -> np.ndarray:
        free = scaled.nominal + multiplier[:, None] * scaled.normal
        return np.sum(scaled.normal * np.clip(free, -LIMIT, LIMIT), axis=1)

    low, high = np.zeros_like(scaled.offset), np.full_like(scaled.offset, PENALTY)
    for _ in range(100):
        middle = 0.5 * (low + high)
        short = reached(middle) < scaled.offset
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.where(reached(np.zeros_like(high)) >= scaled.offset, 0.0, high)


def answers(problems: Problems) -> Answers:
    """Commands and gradients.

    Where the row is met with a multiplier m below the penalty, m follows from the axes that no limit holds, F:
    dm/db = 1 / (a F a), dm/du_nom = -F a / (a F a) for the scaled row a . u >= b.
    """
    scaled, multiplier = problems.scaled(), multipliers(problems)
    wanted = scaled.nominal + multiplier[:, None] * scaled.normal
    command, free = np.clip(wanted, -LIMIT, LIMIT), (np.abs(wanted) < LIMIT).astype(float)
    along = free * scaled.normal
    sum_of_squares = np.sum(along**2, axis=1)
    acts = (multiplier > 0.0) & (multiplier < PENALTY) & (sum_of_squares > 0.0)
    by_offset = np.where(acts[:, None], along / np.where(acts, sum_of_squares, 1.0)[:, None], 0.0)  # du/db, scaled
    of_command = 2.0 * command
    pull = np.sum(of_command * by_offset, axis=1)
    gradient = np.column_stack([free * of_command - along * pull[:, None], pull / problems.size()])
    short = np.sum(scaled.normal * np.clip(scaled.nominal, -LIMIT, LIMIT), axis=1) - scaled.offset
    margins = np.column_stack([np.abs(np.abs(wanted) - LIMIT), np.abs(short), np.abs(PENALTY - multiplier)])
    return Answers(command, gradient, margins.min(axis=1) > NEAR)
