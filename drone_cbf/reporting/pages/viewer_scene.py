"""What the viewer draws around the paths: the obstacles of every shape, the ground, and the box that is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import geometry, polyhedra
from drone_cbf.reporting.figures.polyhedra import Polyhedron
from drone_cbf.reporting.records import Flight

NEARBY = 1.0  # obstacles that come this close to a path [m] are always inside the view
SMALLEST_VIEW = 2.0  # least side of the view [m]
BELOW_GROUND = 0.05  # the view begins this far below the ground [m]: at its edge the ground would be cut away
EDGE = 0.01  # solids end this far inside the view [m]: a face at its edge would be cut away, the solid look hollow

Bounds = tuple[Array, Array]
"""Lowest and highest corner [m], (3,) each."""


def scene(flights: Sequence[Flight]) -> dict[str, object]:
    """The view's ``box``, its ``obstacles``, ``polyhedra`` and ``ground``, of flights that share a scene.

    ``obstacles``: capsules as [x, y, outline in rows (z, radius), velocity]. ``polyhedra``: boxes and cylinders, each
    face as the coordinates of its corners in one row. Everything is as at time zero [m, m/s].
    """
    ground, solids = geometry.visible_ground(flights), geometry.shown_polyhedra(flights)
    capsules = _capsules(flights)
    low, high = _view(flights, capsules, solids)
    if ground is not None:
        low[2] = ground - BELOW_GROUND
    kept = [solid if solid.moves else polyhedra.cut_to(solid, low + EDGE, high - EDGE) for solid in solids]
    return {
        "box": [numbers(side) for side in np.column_stack([low, high])],
        "ground": ground,
        "obstacles": [
            [*numbers(row[:2]), [numbers(level) for level in profile], numbers(velocity)]
            for row, velocity, profile, (lowest, highest) in capsules
            if velocity.any() or ((lowest >= low).all() and (highest <= high).all())
        ],
        "polyhedra": [
            {
                "faces": [numbers(face.ravel(), 3) for face in solid.faces],
                "round": solid.round,
                "velocity": numbers(solid.velocity),
            }
            for solid in kept
            if solid is not None
        ],
    }


def numbers(values: Array, decimals: int = 4) -> list[float | None]:
    """To a tenth of a millimetre; JSON knows neither NaN nor infinity, and plotly draws null as a gap."""
    return [round(value, decimals) if np.isfinite(value) else None for value in values.tolist()]


def _capsules(flights: Sequence[Flight]) -> list[tuple[Array, Array, Array, Bounds]]:
    """Row of the table, velocity, outline (z, radius) and bounds of each capsule that is not entirely out of sight."""
    shape, heights = flights[0].obstacles.capsules, geometry.visible_heights(flights)
    found = []
    for row, velocity in zip(shape.table(), shape.velocity[shape.active], strict=True):
        profile = geometry.capsule_profile(row, *heights)
        if profile is not None:
            reach = np.append(row[[3, 3]], 0.0)
            ends = [np.array([*row[:2], edge]) for edge in (profile[:, 0].min(), profile[:, 0].max())]
            found.append((row, velocity, profile, (ends[0] - reach, ends[1] + reach)))
    return found


def _view(flights: Sequence[Flight], capsules: Sequence, solids: Sequence[Polyhedron]) -> Bounds:
    """The box around the paths, the goal, and what comes near a path, where it is then."""
    path = geometry.flown_points(flights)
    states, times = geometry.flown_times(flights)
    # A goal is a place to be shown, at no particular time: only obstacles that stand still can be near it.
    still = np.concatenate([states, path]), np.append(times, np.zeros(len(path)))
    low, high = path.min(0), path.max(0)
    for row, velocity, _, bounds in capsules:
        points, moments = (states, times) if velocity.any() else still
        gaps = geometry.capsule_distance(row, points - moments[:, None] * velocity)
        low, high = _extended((low, high), bounds, gaps, moments, velocity)
    for solid in solids:
        points, moments = (states, times) if solid.moves else still
        gaps = polyhedra.prism_distance(solid, points - moments[:, None] * solid.velocity)
        bounds = solid.corners.min(0), solid.corners.max(0)
        low, high = _extended((low, high), bounds, gaps, moments, solid.velocity)
    short = np.maximum(SMALLEST_VIEW - (high - low), 0.2) / 2.0
    return low - short, high + short


def _extended(view: Bounds, bounds: Bounds, gaps: Array, times: Array, velocity: Array) -> Bounds:
    """``view`` widened by ``bounds`` of a solid if its least gap to the path is below ``NEARBY``, where it is then."""
    if gaps.min() >= NEARBY:
        return view
    shift = velocity * times[np.argmin(gaps)]
    return np.minimum(view[0], bounds[0] + shift), np.maximum(view[1], bounds[1] + shift)
