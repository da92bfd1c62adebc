"""Draws obstacles from above, cut by horizontal planes: circles for capsules, polygons for boxes and cylinders."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Polygon

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import geometry, polyhedra, style
from drone_cbf.reporting.obstacles import Obstacles

SECTION = {"fc": style.OBSTACLE, "ec": style.OBSTACLE_EDGE, "lw": style.THIN, "zorder": 1.2}
MISSED = {"fc": "none", "ec": style.OBSTACLE, "lw": style.THIN, "ls": ":", "zorder": 1.1}  # over halos
MOVED = {"fc": style.OBSTACLE, "ec": style.OBSTACLE_EDGE, "lw": style.THIN, "alpha": 0.3, "zorder": 0.95}

Outline = tuple[Array, float] | Array
"""Centre (2,) and radius of a circle, or the corners (k, 2) of a polygon [m]."""


def passing_heights(obstacles: Obstacles, path: Array, times: Array) -> Array:
    """z at which a path (N, 3) flown at ``times`` (N,) passes each active obstacle, (A,) [m].

    Relative to where a moving obstacle is then: cut the obstacles at time zero there. Capsules come first, then boxes,
    then cylinders.
    """
    shape = obstacles.capsules
    seen = geometry.seen_from(shape.velocity[shape.active], path, times)
    solids = polyhedra.polyhedra(obstacles)
    high = polyhedra.passing_heights(solids, path, times)
    return np.concatenate([geometry.passing_height(shape.table(), seen), high])


def draw_halos(axes: Axes, obstacles: Obstacles, height: Array | float, grow: float) -> None:
    """Where the centre of a drone with radius ``grow`` [m] may not be at ``height``: one, or one per obstacle [m]."""
    for outline in _cuts(obstacles, height, grow):
        if outline is not None:
            axes.add_patch(_patch(outline, fc=style.HALO, ec="none", gid="halo", zorder=1.0))


def draw_sections(
    axes: Axes, obstacles: Obstacles, height: Array | float, cut: Mapping = SECTION, missed: Mapping = MISSED
) -> None:
    """The outline of each obstacle: with the look ``cut`` if it is at ``height``, else ``missed`` and from above.

    ``height``: one, or one per active obstacle [m].
    """
    for outline, whole in zip(_cuts(obstacles, height), _footprints(obstacles), strict=True):
        if outline is None:
            axes.add_patch(_patch(whole, **{**missed, "gid": "cleared"}))
        else:
            axes.add_patch(_patch(outline, **{**cut, "gid": "obstacle"}))


def draw_motion(axes: Axes, obstacles: Obstacles, duration: float) -> None:
    """Each moving obstacle faintly where it is after ``duration`` [s], with an arrow from its start (gid "motion")."""
    after = obstacles.at(duration)
    velocities = np.concatenate([shape.velocity[shape.active] for shape in obstacles.shapes])
    for outline, begin, end, velocity in zip(
        _footprints(after), obstacles.centres, after.centres, velocities, strict=True
    ):
        if velocity.any():
            axes.add_patch(_patch(outline, **MOVED, gid="moved"))
        if velocity[:2].any():
            arrow = FancyArrowPatch(tuple(begin[:2]), tuple(end[:2]), arrowstyle="-|>", mutation_scale=9.0, shrinkA=0)
            arrow.set(color=style.OBSTACLE_EDGE, linewidth=style.THIN, alpha=0.6, zorder=1.3, gid="motion")
            axes.add_patch(arrow)


def moves(obstacles: Obstacles) -> bool:
    """Whether any active obstacle has a velocity."""
    return any(bool(shape.velocity[shape.active].any()) for shape in obstacles.shapes)


def missed_handle() -> Line2D:
    """Legend handle of an obstacle that the plane misses."""
    return Line2D([], [], color=style.OBSTACLE, ls=":", lw=1.2, label="obstacle above or below")


def motion_handle() -> Patch:
    """Legend handle of a moving obstacle at the end of the flight."""
    return Patch(fc=style.OBSTACLE, ec=style.OBSTACLE_EDGE, alpha=0.3, label="moving obstacle at the end")


def _cuts(obstacles: Obstacles, height: Array | float, grow: float = 0.0) -> list[Outline | None]:
    """Each active obstacle, grown by ``grow``, cut at ``height`` (one, or one each) [m]; None: the plane misses."""
    rows, solids = obstacles.capsules.table(), polyhedra.polyhedra(obstacles)
    heights = np.broadcast_to(height, len(rows) + len(solids))
    radii = geometry.section_radius(rows, heights[: len(rows)], grow)
    circles = [(row[:2], radius) if radius > 0.0 else None for row, radius in zip(rows, radii, strict=True)]
    levels = heights[len(rows) :].tolist()
    return circles + [polyhedra.section(solid, level, grow) for solid, level in zip(solids, levels, strict=True)]


def _footprints(obstacles: Obstacles) -> list[Outline]:
    """Each active obstacle as seen from above."""
    circles = [(row[:2], row[3]) for row in obstacles.capsules.table()]
    return [*circles, *map(polyhedra.footprint, polyhedra.polyhedra(obstacles))]


def _patch(outline: Outline, **look: object) -> Patch:
    if isinstance(outline, tuple):
        return Circle(tuple(outline[0]), outline[1], **look)
    return Polygon(outline, closed=True, **look)
