"""Convex polyhedra: boxes, and horizontal cylinders as prisms, cut and outlined for plane and 3-D pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import polygons
from drone_cbf.reporting.obstacles import Boxes, Cylinders, Obstacles

SIDES = 28  # of the prism that stands for a cylinder: 0.6 % thinner where it is thinnest
LEVELS = 15  # heights at which a polyhedron is cut to grow it
# Corners of a box in units of its half sides, and each face's corners, counter-clockwise as seen from outside.
_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_BOX_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """A convex solid by its faces, each a convex polygon, counter-clockwise as seen from outside."""

    faces: tuple[Array, ...]
    """Corners of each face at time zero [m], (k, 3)."""
    velocity: Array
    """[m/s], (3,)."""
    round: bool = False
    """Whether the faces stand for a curved surface."""

    @property
    def corners(self) -> Array:
        """Corners of all faces [m], (N, 3); a corner is repeated for every face that has it."""
        return np.concatenate([np.zeros((0, 3)), *self.faces])

    @property
    def moves(self) -> bool:
        """Whether it has a velocity."""
        return bool(self.velocity.any())


def polyhedra(obstacles: Obstacles) -> list[Polyhedron]:
    """The active boxes, then the active cylinders."""
    return _boxes(obstacles.boxes) + _cylinders(obstacles.cylinders)


def footprint(solid: Polyhedron) -> Array:
    """Outline from above [m], (N, 2), counter-clockwise."""
    return polygons.hull(solid.corners[:, :2])


def section(solid: Polyhedron, height: float, grow: float = 0.0) -> Array | None:
    """Outline of the cut by the plane z = ``height`` [m], (N, 2); None where the plane misses.

    ``grow`` [m]: of all points that close to the solid, inscribed with ``LEVELS`` levels.
    """
    low, high = np.min(solid.corners[:, 2]), np.max(solid.corners[:, 2])
    if not low - grow < height < high + grow:
        return None
    if grow == 0.0:
        return polygons.hull(_cut_points(solid, height))
    levels = np.unique(np.clip(np.linspace(height - grow, height + grow, LEVELS), low, high))
    # The plane cuts the ball of radius ``grow`` about a point of the solid in a circle, smaller the farther it lies.
    rims = np.sqrt(np.maximum(grow**2 - (levels - height) ** 2, 0.0))
    circle = polygons.circle(24)
    points = [_cut_points(solid, level)[:, None] + rim * circle for level, rim in zip(levels, rims, strict=True)]
    return polygons.hull(np.concatenate([cut.reshape(-1, 2) for cut in points]))


def passing_heights(solids: list[Polyhedron], path: Array, times: Array) -> Array:
    """z of the point of ``path`` (N, 3) that comes horizontally nearest to each solid, (A,) [m].

    ``times`` of the points [s], (N,): the height is relative to where a moving solid is then, for cuts of the solid at
    time zero.
    """
    heights = []
    for solid in solids:
        seen = path - times[:, None] * solid.velocity
        heights.append(seen[np.argmin(polygons.distance(footprint(solid), seen[:, :2])), 2])
    return np.array(heights)


def prism_distance(solid: Polyhedron, points: Array) -> Array:
    """Distance of points (N, 3) to the upright prism around the solid [m], (N,); 0 inside.

    Exact for upright boxes; at most the distance to the solid.
    """
    low, high = np.min(solid.corners[:, 2]), np.max(solid.corners[:, 2])
    beyond = np.maximum(np.maximum(low - points[:, 2], points[:, 2] - high), 0.0)
    return np.hypot(polygons.distance(footprint(solid), points[:, :2]), beyond)


def cut_to(solid: Polyhedron, low: Array, high: Array) -> Polyhedron | None:
    """The part inside the upright box from corner ``low`` to corner ``high`` [m], closed; None if nothing is inside."""
    faces = list(solid.faces)
    for axis in range(3):
        for sign, limit in ((1.0, high[axis]), (-1.0, low[axis])):
            normal = sign * np.eye(3)[axis]
            faces = _cut_off(faces, normal, sign * limit)
            if len(faces) < 4:
                return None
    return replace(solid, faces=tuple(faces))


def normal_of(face: Array) -> Array:
    """Outward unit normal (Newell's sum, which bears repeated corners), (3,)."""
    total = np.cross(face, np.roll(face, -1, axis=0)).sum(0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


def tiles(face: Array, size: float) -> list[Array]:
    """The face in pieces of at most ``size`` [m] along two directions of its plane."""
    normal = normal_of(face)
    edges = np.roll(face, -1, axis=0) - face
    first = edges[np.argmax(np.linalg.norm(edges, axis=-1))]
    first = first / max(float(np.linalg.norm(first)), 1e-12)
    pieces = [face]
    for axis in (first, np.cross(normal, first)):
        along = face @ axis
        count = max(1, int(np.ceil(np.ptp(along) / size)))
        limits = np.linspace(along.min(), along.max(), count + 1)
        pieces = [
            part
            for piece in pieces
            for low, high in pairwise(limits)
            if len(part := polygons.keep_below(polygons.keep_below(piece, axis, high), -axis, -low)) > 2
        ]
    return pieces


def _boxes(boxes: Boxes) -> list[Polyhedron]:
    chosen = np.flatnonzero(boxes.active)
    found = []
    for centre, half, turn, velocity in zip(
        boxes.centre[chosen], boxes.half_size[chosen], boxes.rotation[chosen], boxes.velocity[chosen], strict=True
    ):
        corners = centre + (_CORNERS * half) @ turn.T
        found.append(Polyhedron(tuple(corners[list(face)] for face in _BOX_FACES), velocity))
    return found


def _cylinders(cylinders: Cylinders) -> list[Polyhedron]:
    circle = polygons.circle(SIDES)
    found = []
    for row in np.flatnonzero(cylinders.active):
        heading = cylinders.heading[row]
        along = cylinders.half_length[row] * np.array([np.cos(heading), np.sin(heading), 0.0])
        across, up = np.array([-np.sin(heading), np.cos(heading), 0.0]), np.array([0.0, 0.0, 1.0])
        rim = cylinders.centre[row] + cylinders.radius[row] * (circle[:, :1] * across + circle[:, 1:] * up)
        near, far = rim - along, rim + along
        sides = [np.stack([near[k - 1], near[k], far[k], far[k - 1]]) for k in range(SIDES)]
        found.append(Polyhedron((*sides, near[::-1], far), cylinders.velocity[row], round=True))
    return found


def _cut_points(solid: Polyhedron, height: float) -> Array:
    """Points at which the plane z = ``height`` meets the edges of the faces, (N, 2)."""
    begin = solid.corners
    end = np.concatenate([np.roll(face, -1, axis=0) for face in solid.faces])
    below, above = begin[:, 2] - height, end[:, 2] - height
    crosses = (below < 0.0) != (above < 0.0)
    share = below[crosses] / (below - above)[crosses]
    crossing = begin[crosses, :2] + share[:, None] * (end - begin)[crosses, :2]
    return np.concatenate([crossing, begin[np.abs(below) < 1e-9, :2]])


def _cut_off(faces: list[Array], normal: Array, limit: float) -> list[Array]:
    """Faces of the part with ``normal`` @ point <= ``limit``; a new face closes the cut."""
    if max(float((face @ normal).max()) for face in faces) <= limit + 1e-9:
        return faces
    kept = [part for face in faces if len(part := polygons.keep_below(face, normal, limit)) > 2]
    rim = np.concatenate([np.zeros((0, 3)), *(face[np.abs(face @ normal - limit) < 1e-7] for face in kept)])
    axis = int(np.argmax(np.abs(normal)))
    plane = [(axis + 1) % 3, (axis + 2) % 3]
    if len(rim) < 3:
        return kept
    outline = polygons.hull(rim[:, plane])  # counter-clockwise as seen from +axis
    if len(outline) < 3:
        return kept
    lid = np.full((len(outline), 3), limit * normal[axis])
    lid[:, plane] = outline
    return [*kept, lid if normal[axis] > 0.0 else lid[::-1]]
