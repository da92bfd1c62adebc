"""Oriented boxes: walls, crates, and the frames of windows and gates."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, largest_entry, safe_norm
from drone_cbf.physics.solids.lines import first_hit, fraction_at, nearest_entry, slab_crossing


@struct.dataclass
class Boxes:
    """``b`` solid boxes, each turned about its centre."""

    centre: Float[Array, "b 3"]  # At time zero [m]
    half_size: Float[Array, "b 3"]  # Half of each side, along the box's own axes [m]
    rotation: Float[Array, "b 3 3"]  # Columns are the box's own axes in the world frame; they do not turn
    velocity: Float[Array, "b 3"]  # Constant [m/s]
    active: Bool[Array, "b"]  # False for unused slots

    def at(self, time: Scalar | float) -> Boxes:
        """The boxes at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)


def _own_axes(boxes: Boxes, vector: Float[Array, "b 3"]) -> Float[Array, "b 3"]:
    """``vector`` of the world frame along each box's own axes."""
    return jnp.sum(boxes.rotation * vector[:, :, None], axis=1)


def nearest_points(boxes: Boxes, position: Vector) -> Float[Array, "b 3"]:
    """Point of each surface nearest to ``position`` [m]; from inside it lies on the nearest face."""
    place = _own_axes(boxes, position - boxes.centre)
    beyond = jnp.abs(place) - boxes.half_size
    face = jnp.arange(3) == jnp.argmax(beyond, axis=-1)[:, None]
    side = jnp.where(place < 0.0, -1.0, 1.0)
    inside = jnp.all(beyond < 0.0, axis=-1, keepdims=True)
    within = jnp.where(beyond < 0.0, place, side * boxes.half_size)
    point = jnp.where(inside & face, side * boxes.half_size, within)
    return boxes.centre + jnp.sum(boxes.rotation * point[:, None, :], axis=-1)


def signed_distances(boxes: Boxes, position: Vector) -> Float[Array, "b"]:
    """Signed distance from ``position`` to each surface [m]; negative inside, that to the nearest face."""
    return _distances(_own_axes(boxes, position - boxes.centre), boxes.half_size)


def _distances(place: Float[Array, "*k b 3"], half_size: Float[Array, "b 3"]) -> Float[Array, "*k b"]:
    """Signed distances of places along the boxes' own axes."""
    beyond = jnp.abs(place) - half_size
    deepest = largest_entry(beyond)
    return jnp.where(deepest < 0.0, deepest, safe_norm(jnp.where(beyond < 0.0, 0.0, beyond)))


def swept_distances(boxes: Boxes, start: Vector, end: Vector, duration: float) -> Float[Array, "b"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``boxes`` are those at its start. Outside, the slope of the squared distance is continuous and linear between the
    crossings of the six planes of the faces, so its zero follows from those two where it changes sign. Inside, the
    depth is the least of six linear functions, so it is greatest where two of them are equal. Exact, as both distances
    are convex; curvature of the path is not included.
    """
    place = _own_axes(boxes, start - boxes.centre)
    motion = _own_axes(boxes, (end - start) - boxes.velocity * duration)
    outside = _closest_outside(*jax.lax.stop_gradient((place, motion, boxes.half_size)))
    ends = [jnp.zeros_like(outside), jnp.ones_like(outside)]
    fractions = jnp.concatenate([jnp.stack([*ends, outside]), _equal_depths(place, motion, boxes.half_size)])
    return nearest_entry(_distances(place + fractions[..., None] * motion, boxes.half_size).T)


def _closest_outside(
    place: Float[Array, "b 3"], motion: Float[Array, "b 3"], half_size: Float[Array, "b 3"]
) -> Float[Array, "b"]:
    """Fraction of ``motion`` at which the distance from outside is smallest; the first one in contact, if any.

    Not differentiated: the distance has no slope there.
    """

    def slope(fraction: Float[Array, "*k b"]) -> Float[Array, "*k b"]:
        there = place + fraction[..., None] * motion
        return jnp.sum(motion * (there - jnp.clip(there, -half_size, half_size)), -1)

    planes = jnp.concatenate([half_size - place, -half_size - place], -1)
    crossings = jnp.moveaxis(fraction_at(planes, jnp.concatenate([motion, motion], -1)), -1, 0)
    limits = jnp.stack([jnp.zeros_like(place[:, 0]), jnp.ones_like(place[:, 0])])
    fractions = jnp.concatenate([limits, crossings])
    falling = slope(fractions) < 0.0
    before = jnp.max(jnp.where(falling, fractions, 0.0), axis=0)
    after = jnp.min(jnp.where(falling, 1.0, fractions), axis=0)
    low, high = slope(before), slope(after)
    return before + (after - before) * fraction_at(-low, high - low)


def _equal_depths(
    place: Float[Array, "b 3"], motion: Float[Array, "b 3"], half_size: Float[Array, "b 3"]
) -> Float[Array, "15 b"]:
    """Fractions of ``motion`` at which two of the six planes of the faces are equally far."""
    found = [fraction_at(-place, motion)]  # Of opposite faces
    for side, other in itertools.product((1.0, -1.0), repeat=2):  # Of faces along each axis and the next one
        apart = (side * place - half_size) - jnp.roll(other * place - half_size, 1, axis=-1)
        found.append(fraction_at(-apart, side * motion - jnp.roll(other * motion, 1, axis=-1)))
    return jnp.concatenate(found, axis=-1).T


def ray_distances(boxes: Boxes, origin: Vector, directions: Float[Array, "r 3"]) -> Float[Array, "r b"]:
    """Distance from ``origin`` to each surface along unit ``directions`` [m]; 0 from inside, ``FAR`` without a hit."""
    place = _own_axes(boxes, origin - boxes.centre)
    x, y, z = directions.T
    enter, leave = [], []
    for axis in range(3):
        own = boxes.rotation[:, :, axis, None]
        along = own[:, 0] * x + own[:, 1] * y + own[:, 2] * z
        crossing = slab_crossing(place[:, axis, None], along, boxes.half_size[:, axis, None])
        enter.append(crossing[0])
        leave.append(crossing[1])
    last = jnp.maximum(jnp.maximum(enter[0], enter[1]), enter[2])
    first = jnp.minimum(jnp.minimum(leave[0], leave[1]), leave[2])
    return first_hit(last, first).T
