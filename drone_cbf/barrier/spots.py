"""Random points on the surfaces of a scene, beside which training states lie."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.config import SystemConfig
from drone_cbf.draws import between, index_by_weight, standard_exponential, standard_normal
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.physics.solids.cylinders import Cylinders
from drone_cbf.physics.solids.ground import Ground
from drone_cbf.scenes.scene import Scene

TALL = 10.0  # Boxes of this half height [m] or more reach beyond all flights: spots lie within a metre of their middle
AROUND_START = 4.0  # Points of the ground lie within this distance of the scene's start along x and y [m]


@struct.dataclass
class Spot:
    """A random point on the surface of an obstacle."""

    axis: Vector  # Point on the obstacle's axis, or on a flat surface [m]
    outward: Vector  # Unit normal of the surface
    radius: Scalar  # [m]; 0 for a flat surface

    def at(self, distance: Scalar) -> Vector:
        """The point ``distance`` [m] outside the surface."""
        return self.axis + self.outward * (self.radius + distance)


SPOT: dict[str, tuple[int, ...]] = {"pick": (), "direction": (3,), "height": (), "distance": ()}
"""Draws used by :func:`random_spot` and :func:`beside_an_obstacle`, uniform in [0, 1)."""


def random_spot(scene: Scene, draw: dict[str, Array]) -> Spot:
    """A point on a random active obstacle: every obstacle is as likely, whatever its shape and size."""
    index = index_by_weight(draw["pick"], scene.obstacles.active.astype(jnp.float32))
    makers: tuple[Callable[..., Spot], ...] = (_on_capsule, _on_box, _on_cylinder, _on_ground)
    spots: list[tuple[int, Spot]] = []
    first = 0
    for solids, spot_on in zip(scene.obstacles.shapes, makers, strict=True):
        if slots := solids.active.shape[0]:
            row = jnp.clip(index - first, 0, slots - 1) if spots else index
            one = jax.tree.map(lambda leaf, row=row: leaf[row], solids)
            spots.append((first, spot_on(one, draw, scene.start)))
            first += slots
    chosen = spots[0][1]
    for first, spot in spots[1:]:
        chosen = jax.tree.map(functools.partial(jnp.where, index >= first), spot, chosen)
    return chosen


def beside_an_obstacle(scene: Scene, draw: dict[str, Array], system: SystemConfig) -> Vector:
    """A point at an exponentially distributed distance from the surface of a random active obstacle [m]."""
    distance = 0.5 * system.physics.drone_radius + 0.8 * system.sensor.length * standard_exponential(draw["distance"])
    return random_spot(scene, draw).at(distance)


def _on_capsule(capsule: Capsules, draw: dict[str, Array], start: Vector) -> Spot:
    """On the wall of a pillar; of a trunk within a metre of its mid-height."""
    trunk = capsule.half_height > 0.0
    direction = standard_normal(draw["direction"]) * jnp.where(trunk, jnp.array([1.0, 1.0, 0.0]), 1.0)
    most = jnp.minimum(capsule.half_height, 1.0)
    height = jnp.where(trunk, between(draw["height"], -most, most), 0.0)
    axis = capsule.centre + jnp.array([0.0, 0.0, 1.0]) * height
    return Spot(axis=axis, outward=unit(direction), radius=capsule.radius)


def _on_box(box: Boxes, draw: dict[str, Array], start: Vector) -> Spot:
    """Anywhere on the six faces, with odds by the square root of their area: an opening is between narrow ones."""
    size = box.half_size
    height = jnp.where(size[2] < TALL, size[2], 1.0)
    within_reach = jnp.array([True, True, False]) | (size[2] < TALL)
    odds = jnp.where(within_reach, jnp.sqrt(jnp.roll(size, 1) * jnp.roll(size, -1)), 0.0)
    face = index_by_weight(draw["height"], jnp.concatenate([odds, odds]))
    normal = jnp.where(jnp.arange(3) == face % 3, jnp.where(face < 3, 1.0, -1.0), 0.0)
    place = jnp.where(normal == 0.0, between(draw["direction"], -1.0, 1.0) * size.at[2].set(height), normal * size)
    turned = [jnp.sum(box.rotation * own, -1) for own in (place, normal)]
    return Spot(axis=box.centre + turned[0], outward=turned[1], radius=jnp.float32(0.0))


def _on_cylinder(cylinder: Cylinders, draw: dict[str, Array], start: Vector) -> Spot:
    """Anywhere on wall and ends, evenly."""
    length, radius = cylinder.half_length, cylinder.radius
    on_wall = draw["height"] < 2.0 * length / (2.0 * length + radius)
    turn, depth, side = draw["direction"]
    angle, end = 2.0 * jnp.pi * turn, jnp.where(side < 0.5, -1.0, 1.0)
    across = jnp.array([0.0, jnp.cos(angle), jnp.sin(angle)])
    along = jnp.array([1.0, 0.0, 0.0])
    on_end = end * length * along + radius * jnp.sqrt(depth) * across
    place = jnp.where(on_wall, between(depth, -length, length) * along + radius * across, on_end)
    normal = jnp.where(on_wall, across, end * along)
    cosine, sine = jnp.cos(cylinder.heading), jnp.sin(cylinder.heading)
    turned = [
        jnp.stack([own[0] * cosine - own[1] * sine, own[0] * sine + own[1] * cosine, own[2]]) for own in (place, normal)
    ]
    return Spot(axis=cylinder.centre + turned[0], outward=turned[1], radius=jnp.float32(0.0))


def _on_ground(ground: Ground, draw: dict[str, Array], start: Vector) -> Spot:
    """Around the scene's start."""
    place = (start + between(draw["direction"], -AROUND_START, AROUND_START)).at[2].set(ground.height)
    return Spot(axis=place, outward=jnp.array([0.0, 0.0, 1.0]), radius=jnp.float32(0.0))
