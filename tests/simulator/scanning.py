"""A range sensor that sees in all directions, and how close a track comes to the solids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tests.simulator.patterns import Pattern, even
from tests.simulator.solids import Solids

BLOCK = 64
"""Pairs of flight and solid whose rays are cast at once: their arrays fit a processor's cache."""


@dataclass(frozen=True)
class Scanner:
    """Rays in the directions of a pattern, the same for all flights of a batch."""

    count: int = 512
    """Number of rays."""
    reach: float = 8.0
    """Largest distance measured [m]."""
    no_return: float | None = None
    """None: rays without an echo are masked out, as are those that drop out. Otherwise such a ray, unless it drops out,
    shows a point at this distance [m]: it tells free space from no measurement."""

    pattern: Pattern = even

    def scan(
        self, solids: Iterable[Solids], position: np.ndarray, noise: float, dropout: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (b, r, 3) [m] and mask (b, r) seen from ``position`` (b, 3).

        ``noise`` is the standard deviation of a distance [m], ``dropout`` the probability that a ray is lost. Points
        that are masked out are NaN: nobody may use them.
        """
        rays = self.pattern(self.count, rng)
        distance = cast(solids, position, rays, self.reach)
        echo = distance <= self.reach
        distance += noise * rng.standard_normal(distance.shape)
        mask = (rng.random(distance.shape) >= dropout) & (echo | (self.no_return is not None))
        shown = distance if self.no_return is None else np.where(echo, distance, self.no_return)
        shown = np.where(mask, np.maximum(shown, 0.0), np.nan)
        return position[:, None, :] + shown[..., None] * rays, mask


def cast(solids: Iterable[Solids], position: np.ndarray, rays: np.ndarray, reach: float) -> np.ndarray:
    """Distance (b, r) from ``position`` (b, 3) along ``rays`` to each flight's first solid; inf beyond ``reach``."""
    result = np.full((len(position), len(rays)), np.inf)
    for kind in solids:
        near = kind.distances(position[:, None, None, :])[..., 0] < reach
        flights, places = np.nonzero(near)
        for first in range(0, len(flights), BLOCK):
            flight, place = flights[first : first + BLOCK], places[first : first + BLOCK]
            hits = kind.rows((flight, place)).hits(position[flight], rays)
            _lower(result, flight, hits)
    result[result > reach] = np.inf
    return result


def profile(solids: Iterable[Solids], position: np.ndarray, track: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Distance of the nearest solid (b, s) at each place of ``track`` (b, s, 3), where it is below ``known`` (b,) [m].

    A distance changes by no more than the way from ``position`` (b, 3), so solids too far to matter are left out; where
    none matters the result is inf.
    """
    travel = np.sqrt(np.square(track - position[:, None, :]).sum(-1).max(-1))
    result = np.full(track.shape[:2], np.inf)
    for kind in solids:
        before = kind.distances(position[:, None, None, :])[..., 0]
        flight, place = np.nonzero(before - travel[:, None] < known[:, None])
        _lower(result, flight, kind.rows((flight, place)).distances(track[flight]))
    return result


def _lower(result: np.ndarray, flight: np.ndarray, values: np.ndarray) -> None:
    """Lowers rows ``flight`` (p,), in ascending order, of ``result`` to the smallest of their ``values`` (p, r)."""
    if len(flight):
        first = np.flatnonzero(np.diff(flight, prepend=-1))
        owner = flight[first]
        result[owner] = np.minimum(result[owner], np.minimum.reduceat(values, first))
