"""All obstacles of a scene: their solids as one list, in the order capsules, boxes, cylinders, ground."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.physics.solids import boxes as box
from drone_cbf.physics.solids import capsules as capsule
from drone_cbf.physics.solids import cylinders as cylinder
from drone_cbf.physics.solids import ground as plane
from drone_cbf.physics.solids import lines
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground
from drone_cbf.physics.solids.lines import nearest_entry, place_of_nearest

FAR = lines.FAR  # Distance reported for a masked obstacle [m]


@struct.dataclass
class Obstacles:
    """The ``m`` solids of a scene, by shape; each shape may be absent (no slots)."""

    capsules: Capsules
    boxes: Boxes
    cylinders: Cylinders
    ground: Ground

    def at(self, time: Scalar | float) -> Obstacles:
        """The obstacles at ``time`` [s]."""
        return self.replace(
            capsules=self.capsules.at(time), boxes=self.boxes.at(time), cylinders=self.cylinders.at(time)
        )

    def only(self, kept: Bool[Array, "*batch m"]) -> Obstacles:
        """The obstacles without those that are not ``kept``."""
        ends = np.cumsum([shape.active.shape[-1] for shape in self.shapes])[:-1]
        parts = jnp.split(self.active & kept, ends, axis=-1)
        return Obstacles(*(shape.replace(active=part) for shape, part in zip(self.shapes, parts, strict=True)))

    @property
    def shapes(self) -> tuple[Capsules, Boxes, Cylinders, Ground]:
        """In the order of the list."""
        return self.capsules, self.boxes, self.cylinders, self.ground

    @property
    def active(self) -> Bool[Array, "*batch m"]:
        """False for unused slots."""
        return jnp.concatenate([shape.active for shape in self.shapes], axis=-1)

    @property
    def velocity(self) -> Float[Array, "*batch m 3"]:
        """[m/s]."""
        still = jnp.zeros((*self.ground.height.shape, 3), jnp.float32)
        return jnp.concatenate([self.capsules.velocity, self.boxes.velocity, self.cylinders.velocity, still], axis=-2)


def nearest_surface_points(obstacles: Obstacles, position: Vector) -> Float[Array, "m 3"]:
    """Point of each surface nearest to ``position`` [m]; masked obstacles are placed ``FAR`` away along x."""
    nearest = (capsule.nearest_points, box.nearest_points, cylinder.nearest_points, plane.nearest_points)
    points = jnp.concatenate(_of_each(obstacles, nearest, position) or [jnp.zeros((0, 3), jnp.float32)])
    return jnp.where(obstacles.active[:, None], points, position + jnp.array([FAR, 0.0, 0.0]))


def surface_distances(obstacles: Obstacles, position: Vector) -> Float[Array, "m"]:
    """Signed distance from ``position`` to each surface [m], negative inside; ``FAR`` where masked."""
    signed = (capsule.signed_distances, box.signed_distances, cylinder.signed_distances, plane.signed_distances)
    distance = jnp.concatenate(_of_each(obstacles, signed, position) or [jnp.zeros(0, jnp.float32)])
    return jnp.where(obstacles.active, distance, FAR)


PLANE = 1e3  # Radius of what is as good as flat [m]


def rounding(obstacles: Obstacles, sag: float) -> tuple[Float[Array, "m"], Bool[Array, "m"]]:
    """Radius of the ball or upright cylinder that each surface is at most, near a point on it, and which it is.

    Exact for capsules, but for the caps of upright ones. The flat side of a box reaches ``sag`` [m] out of the ball
    that touches its middle; beams and the ground are planes.
    """
    capsules, boxes = obstacles.capsules, obstacles.boxes
    side = jnp.sum(boxes.half_size**2, -1) - jnp.min(boxes.half_size, axis=-1, initial=jnp.inf) ** 2
    flat = jnp.full(obstacles.cylinders.active.shape[0] + obstacles.ground.active.shape[0], PLANE, jnp.float32)
    radius = jnp.concatenate([capsules.radius, jnp.minimum(0.5 * (side / sag + sag), PLANE), flat])
    upright = jnp.concatenate([capsules.half_height > 0.0, jnp.zeros(radius.shape[0] - capsules.radius.shape[0], bool)])
    return radius, upright


def swept_distances(obstacles: Obstacles, start: Vector, end: Vector, duration: float) -> Float[Array, "m"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``obstacles`` are those at its start. Curvature of the path is not included.
    """
    swept = (capsule.swept_distances, box.swept_distances, cylinder.swept_distances, plane.swept_distances)
    distance = jnp.concatenate(_of_each(obstacles, swept, start, end, duration) or [jnp.zeros(0, jnp.float32)])
    return jnp.where(obstacles.active, distance, FAR)


def ray_distances(
    obstacles: Obstacles, origin: Vector, directions: Float[Array, "r 3"], limit: Scalar | float
) -> Float[Array, "r"]:
    """Distance from ``origin`` to the nearest surface along each unit direction [m]; ``limit`` if none is nearer."""
    distance = jnp.full(directions.shape[0], limit, jnp.float32)
    for hit in _ray_hits_of_each(obstacles, origin, directions):
        distance = jnp.minimum(distance, nearest_entry(hit))
    return distance


def ray_hits(
    obstacles: Obstacles, origin: Vector, directions: Float[Array, "r 3"], limit: Scalar | float
) -> tuple[Float[Array, "r"], Int[Array, "r"]]:
    """:func:`ray_distances`, and which obstacle each ray meets; -1 where none is nearer than ``limit``."""
    distance = jnp.full(directions.shape[0], limit, jnp.float32)
    met, first = jnp.full(directions.shape[0], -1, jnp.int32), 0
    for hit in _ray_hits_of_each(obstacles, origin, directions):
        nearest = nearest_entry(hit)
        met = jnp.where(nearest < distance, first + place_of_nearest(hit), met)
        distance, first = jnp.minimum(distance, nearest), first + hit.shape[1]
    return distance, met


def _ray_hits_of_each(
    obstacles: Obstacles, origin: Vector, directions: Float[Array, "r 3"]
) -> list[Float[Array, "r _"]]:
    """Distances along each ray by shape [m]; ``FAR`` where masked."""
    rays = (capsule.ray_distances, box.ray_distances, cylinder.ray_distances, plane.ray_distances)
    found = _of_each(obstacles, rays, origin, directions)
    masks = [shape.active for shape in obstacles.shapes if shape.active.shape[0]]
    return [jnp.where(active, distance, FAR) for active, distance in zip(masks, found, strict=True)]


def _of_each(obstacles: Obstacles, functions: tuple[Callable[..., Array], ...], *arguments: object) -> list[Array]:
    """Each shape's function on its solids; a shape without slots costs nothing."""
    pairs = zip(functions, obstacles.shapes, strict=True)
    return [function(solids, *arguments) for function, solids in pairs if solids.active.shape[0]]


def no_boxes(slots: int = 0) -> Boxes:
    """``slots`` unused boxes."""
    return Boxes(
        centre=jnp.zeros((slots, 3), jnp.float32),
        half_size=jnp.ones((slots, 3), jnp.float32),
        rotation=jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (slots, 3, 3)),
        velocity=jnp.zeros((slots, 3), jnp.float32),
        active=jnp.zeros(slots, bool),
    )


def no_cylinders(slots: int = 0) -> Cylinders:
    """``slots`` unused cylinders."""
    zero = jnp.zeros(slots, jnp.float32)
    return Cylinders(
        centre=jnp.zeros((slots, 3), jnp.float32),
        heading=zero,
        half_length=zero + 1.0,
        radius=zero + 1.0,
        velocity=jnp.zeros((slots, 3), jnp.float32),
        active=jnp.zeros(slots, bool),
    )


def no_ground(slots: int = 0) -> Ground:
    """``slots`` (0 or 1) unused grounds."""
    return Ground(height=jnp.zeros(slots, jnp.float32), active=jnp.zeros(slots, bool))


def no_capsules(slots: int = 0) -> Capsules:
    """``slots`` unused capsules."""
    zero = jnp.zeros(slots, jnp.float32)
    return Capsules(
        centre=jnp.zeros((slots, 3), jnp.float32),
        radius=zero + 1.0,
        half_height=zero,
        velocity=jnp.zeros((slots, 3), jnp.float32),
        active=jnp.zeros(slots, bool),
    )


def obstacles_of(
    capsules: Capsules | None = None,
    boxes: Boxes | None = None,
    cylinders: Cylinders | None = None,
    ground: Ground | None = None,
) -> Obstacles:
    """Obstacles of the given shapes; the others have no slots."""
    return Obstacles(
        capsules=no_capsules() if capsules is None else capsules,
        boxes=no_boxes() if boxes is None else boxes,
        cylinders=no_cylinders() if cylinders is None else cylinders,
        ground=no_ground() if ground is None else ground,
    )
