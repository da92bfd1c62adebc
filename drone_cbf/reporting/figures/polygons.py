"""Convex polygons: hull, distance, and the part on one side of a plane."""

from __future__ import annotations

import numpy as np

from drone_cbf.reporting.fields import Array

ROUNDING = 9  # decimals; points that agree to a nanometre are one corner
STRAIGHT = 1e-7  # twice the area of a triangle that counts as a line [m^2]; what rounding leaves over 40 m is smaller


def circle(sides: int) -> Array:
    """Points of the unit circle, counter-clockwise, (sides, 2)."""
    turn = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=-1)


def hull(points: Array) -> Array:
    """Convex hull of points (N, 2), counter-clockwise, without corners on its edges (Andrew 1979), (k, 2)."""
    ordered = np.unique(np.round(points, ROUNDING), axis=0).tolist()
    if len(ordered) < 3:
        return np.array(ordered).reshape(-1, 2)
    chains: list[list[list[float]]] = []
    for line in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for point in line:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= STRAIGHT:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array(chains[0] + chains[1])


def distance(outline: Array, points: Array) -> Array:
    """Distance of points (N, 2) to a convex polygon (k, 2), counter-clockwise [m], (N,); 0 inside."""
    begin, edge = outline, np.roll(outline, -1, axis=0) - outline
    offset = points[:, None] - begin
    share = np.clip((offset * edge).sum(-1) / np.maximum((edge**2).sum(-1), 1e-12), 0.0, 1.0)
    gaps = np.linalg.norm(offset - share[..., None] * edge, axis=-1).min(-1)
    inside = (edge[:, 0] * offset[..., 1] - edge[:, 1] * offset[..., 0] >= 0.0).all(-1)
    return np.where(inside, 0.0, gaps)


def keep_below(polygon: Array, normal: Array, limit: float) -> Array:
    """The part of a convex polygon (k, 3) with ``normal`` @ point <= ``limit``, (n, 3) (Sutherland, Hodgman 1974)."""
    over = polygon @ normal - limit
    if (over <= 0.0).all():
        return polygon
    kept: list[Array] = []
    for index in range(len(polygon)):
        after = (index + 1) % len(polygon)
        if over[index] <= 0.0:
            kept.append(polygon[index])
        if (over[index] < 0.0) != (over[after] < 0.0) and over[index] != 0.0 and over[after] != 0.0:
            share = over[index] / (over[index] - over[after])
            kept.append(polygon[index] + share * (polygon[after] - polygon[index]))
    return np.array(kept).reshape(-1, 3)


def _turn(first: list[float], second: list[float], third: list[float]) -> float:
    """Above zero where the three points turn left."""
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])
