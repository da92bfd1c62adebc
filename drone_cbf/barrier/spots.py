"""Random points on the surfaces of obstacles, from which states are sampled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.draws import between, index_by_weight, standard_normal
from drone_cbf.physics.obstacles import Obstacles
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders

TALL = 10.0  # Boxes of this half height [m] or more reach beyond all flights; spots lie within a metre of their middle


@struct.dataclass
class Spot:
    """A random point on the surface of an obstacle."""

    axis: Vector  # Point on the obstacle's axis [m]; of a box, on its surface
    outward: Vector  # Unit normal of the surface
    radius: Scalar  # [m]
    ground: Scalar | None = None  # Height of the ground [m], if there is one

    def at(self, distance: Scalar) -> Vector:
        """The point ``distance`` [m] outside the surface; mirrored at the ground if it lies below."""
        point = self.axis + self.outward * (self.radius + distance)
        if self.ground is None:
            return point
        return point.at[2].set(self.ground + jnp.abs(point[2] - self.ground))


SPOT: dict[str, tuple[int, ...]] = {"pick": (), "direction": (3,), "height": (), "distance": ()}
"""Draws used by :func:`random_spot` and ``beside_an_obstacle``, uniform in [0, 1)."""


def random_spot(obstacles: Obstacles, draw: dict[str, Array]) -> Spot:
    """A point on a random active obstacle, the ground excepted: it is near to many points of the others."""
    solids = (obstacles.capsules, obstacles.boxes, obstacles.cylinders)
    active = jnp.concatenate([shape.active for shape in solids])
    index = index_by_weight(draw["pick"], active.astype(jnp.float32))
    spot_on: tuple[Callable[[Any, Array, dict[str, Array]], Spot], ...] = (_on_capsule, _on_box, _on_cylinder)
    first, chosen = 0, None
    for shape, spot in zip(solids, spot_on, strict=True):
        count = shape.active.shape[0]
        if count and chosen is None:
            chosen = spot(shape, index - first if first else index, draw)
        elif count:
            here = spot(shape, jnp.maximum(index - first, 0), draw)
            chosen = jax.tree.map(lambda new, old, after=index >= first: jnp.where(after, new, old), here, chosen)
        first += count
    assert chosen is not None, "a family has obstacles other than the ground"
    if not obstacles.ground.active.shape[0]:
        return chosen
    return chosen.replace(ground=jnp.where(obstacles.ground.active[0], obstacles.ground.height[0], -jnp.inf))


def _on_capsule(capsules: Capsules, index: Array, draw: dict[str, Array]) -> Spot:
    """On a trunk within a metre of its mid-height."""
    trunk = capsules.half_height[index] > 0.0
    direction = standard_normal(draw["direction"]) * jnp.where(trunk, jnp.array([1.0, 1.0, 0.0]), 1.0)
    height = jnp.where(trunk, between(draw["height"], -1.0, 1.0), 0.0)
    axis = capsules.centre[index] + jnp.array([0.0, 0.0, 1.0]) * height
    return Spot(axis=axis, outward=unit(direction), radius=capsules.radius[index])


def _on_box(boxes: Boxes, index: Array, draw: dict[str, Array]) -> Spot:
    """On a random face, with odds by the square root of its area: the narrow ones of a wall surround its opening."""
    half, rotation = boxes.half_size[index], boxes.rotation[index]
    face = index_by_weight(draw["height"], 1.0 / jnp.sqrt(half))
    place = between(draw["direction"], -1.0, 1.0)
    side = jnp.where(jnp.arange(3) == face, jnp.where(place < 0.0, -1.0, 1.0), 0.0)
    reach = jnp.where((jnp.arange(3) == 2) & (half > TALL), 1.0, half)
    own = jnp.where(jnp.arange(3) == face, side * half, place * reach)
    return Spot(axis=boxes.centre[index] + rotation @ own, outward=rotation @ side, radius=jnp.zeros_like(half[0]))


def _on_cylinder(cylinders: Cylinders, index: Array, draw: dict[str, Array]) -> Spot:
    """On its mantle."""
    heading = cylinders.heading[index]
    along = jnp.stack([jnp.cos(heading), jnp.sin(heading), jnp.zeros_like(heading)])
    direction = standard_normal(draw["direction"])
    axis = cylinders.centre[index] + between(draw["height"], -1.0, 1.0) * cylinders.half_length[index] * along
    return Spot(axis=axis, outward=unit(direction - (direction @ along) * along), radius=cylinders.radius[index])
