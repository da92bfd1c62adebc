"""All obstacles of a scene: their solids as one list, in the order capsules, boxes, cylinders, ground."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.physics.solids import capsules as capsule
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground

FAR = 1e3  # Distance reported for a masked obstacle [m]


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

    def only(self, kept: Bool[Array, "m"]) -> Obstacles:
        """The obstacles without those that are not ``kept``."""
        shapes = (self.capsules, self.boxes, self.cylinders, self.ground)
        ends = np.cumsum([shape.active.shape[0] for shape in shapes])[:-1]
        parts = jnp.split(self.active & kept, ends)
        return Obstacles(*(shape.replace(active=part) for shape, part in zip(shapes, parts, strict=True)))

    @property
    def active(self) -> Bool[Array, "m"]:
        """False for unused slots."""
        return jnp.concatenate([self.capsules.active, self.boxes.active, self.cylinders.active, self.ground.active])

    @property
    def velocity(self) -> Float[Array, "m 3"]:
        """[m/s]."""
        still = jnp.zeros((*self.ground.height.shape, 3), jnp.float32)
        return jnp.concatenate([self.capsules.velocity, self.boxes.velocity, self.cylinders.velocity, still])


def nearest_surface_points(obstacles: Obstacles, position: Vector) -> Float[Array, "m 3"]:
    """Point of each surface nearest to ``position`` [m]; masked obstacles are placed ``FAR`` away along x."""
    points = capsule.nearest_points(obstacles.capsules, position)
    return jnp.where(obstacles.active[:, None], points, position + jnp.array([FAR, 0.0, 0.0]))


def surface_distances(obstacles: Obstacles, position: Vector) -> Float[Array, "m"]:
    """Signed distance from ``position`` to each surface [m], negative inside; ``FAR`` where masked."""
    distance = capsule.signed_distances(obstacles.capsules, position)
    return jnp.where(obstacles.active, distance, FAR)


def swept_distances(obstacles: Obstacles, start: Vector, end: Vector, duration: float) -> Float[Array, "m"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``obstacles`` are those at its start. Curvature of the path is not included.
    """
    distance = capsule.swept_distances(obstacles.capsules, start, end, duration)
    return jnp.where(obstacles.active, distance, FAR)


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
