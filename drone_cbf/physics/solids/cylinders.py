"""Horizontal cylinders with flat ends: beams, branches and pipes across the flight."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.physics.solids.lines import (
    GRAZING,
    PARALLEL,
    SMALLEST,
    first_hit,
    fraction_at,
    nearest_entry,
    slab_crossing,
)

HALVINGS = 24  # Of a motion, to where it passes nearest: float32 resolves no more


@struct.dataclass
class Cylinders:
    """``c`` solid cylinders with horizontal axes."""

    centre: Float[Array, "c 3"]  # At time zero [m]
    heading: Float[Array, "c"]  # Direction of the axis in the horizontal plane, from x towards y [rad]
    half_length: Float[Array, "c"]  # [m]
    radius: Float[Array, "c"]  # [m]
    velocity: Float[Array, "c 3"]  # Constant [m/s]
    active: Bool[Array, "c"]  # False for unused slots

    def at(self, time: Scalar | float) -> Cylinders:
        """The cylinders at ``time`` [s]."""
        return self.replace(centre=self.centre + self.velocity * time)


def _own_axes(cylinders: Cylinders, vector: Float[Array, "c 3"]) -> Float[Array, "c 3"]:
    """``vector`` along each axis, to its left, and up."""
    cosine, sine = jnp.cos(cylinders.heading), jnp.sin(cylinders.heading)
    x, y, z = vector.T
    return jnp.stack([x * cosine + y * sine, y * cosine - x * sine, z], -1)


def nearest_points(cylinders: Cylinders, position: Vector) -> Float[Array, "c 3"]:
    """Point of each surface nearest to ``position`` [m], on the wall or an end; from the axis, the wall's top."""
    along, left, up = _own_axes(cylinders, position - cylinders.centre).T
    length, radius = cylinders.half_length, cylinders.radius
    across = safe_norm(jnp.stack([left, up], -1))
    on_axis = across < 1e-4
    past_end, past_wall = jnp.abs(along) - length, across - radius
    inside = (past_end < 0.0) & (past_wall < 0.0)
    end = (past_end >= 0.0) | (inside & (past_end > past_wall))
    wall = (past_wall >= 0.0) | (inside & (past_end <= past_wall))
    along = jnp.where(end, jnp.where(along < 0.0, -length, length), along)
    scale = radius / across
    left = jnp.where(wall, jnp.where(on_axis, 0.0, left * scale), left)
    up = jnp.where(wall, jnp.where(on_axis, radius, up * scale), up)
    cosine, sine = jnp.cos(cylinders.heading), jnp.sin(cylinders.heading)
    return cylinders.centre + jnp.stack([along * cosine - left * sine, along * sine + left * cosine, up], -1)


def signed_distances(cylinders: Cylinders, position: Vector) -> Float[Array, "c"]:
    """Signed distance from ``position`` to each surface [m]; negative inside, that to the wall or the nearer end."""
    return _distances(_own_axes(cylinders, position - cylinders.centre), cylinders)


def _distances(place: Float[Array, "*k c 3"], cylinders: Cylinders) -> Float[Array, "*k c"]:
    """Signed distances of places along the cylinders' own axes."""
    past_end = jnp.abs(place[..., 0]) - cylinders.half_length
    past_wall = safe_norm(place[..., 1:]) - cylinders.radius
    deepest = jnp.where(past_end > past_wall, past_end, past_wall)
    beyond = jnp.stack([past_end, past_wall], -1)
    return jnp.where(deepest < 0.0, deepest, safe_norm(jnp.where(beyond < 0.0, 0.0, beyond)))


def swept_distances(cylinders: Cylinders, start: Vector, end: Vector, duration: float) -> Float[Array, "c"]:
    """Smallest signed distance to each surface [m] while moving straight from ``start`` to ``end`` in ``duration`` [s].

    ``cylinders`` are those at its start. The signed distance is convex along the motion. Outside, its minimum is found
    by bisection of the slope (near the rim of an end it solves an equation of fourth degree). Inside, it lies where the
    middle or the axis is passed, or where wall and end are equally far. Curvature of the path is not included.
    """
    place = _own_axes(cylinders, start - cylinders.centre)
    motion = _own_axes(cylinders, (end - start) - cylinders.velocity * duration)
    outside = _closest_outside(*jax.lax.stop_gradient((place, motion, cylinders)))
    ends = [jnp.zeros_like(outside), jnp.ones_like(outside)]
    across, sideways = place[:, 1:], motion[:, 1:]
    middle = fraction_at(-place[:, 0], motion[:, 0])
    axis = fraction_at(-jnp.sum(across * sideways, -1), jnp.sum(sideways * sideways, -1))
    fractions = jnp.stack([*ends, outside, middle, axis, *_equal_depths(place, motion, cylinders)])
    return nearest_entry(_distances(place + fractions[..., None] * motion, cylinders).T)


def _closest_outside(
    place: Float[Array, "c 3"], motion: Float[Array, "c 3"], cylinders: Cylinders
) -> Float[Array, "c"]:
    """Fraction of ``motion`` at which the distance from outside is smallest; the first one in contact, if any.

    Not differentiated: the distance has no slope there.
    """

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        fraction = 0.5 * (low + high)
        there = place + fraction[:, None] * motion
        past_end = there[:, 0] - jnp.clip(there[:, 0], -cylinders.half_length, cylinders.half_length)
        across = safe_norm(there[:, 1:])
        past_wall = jnp.maximum(across - cylinders.radius, 0.0) / across
        slope = motion[:, 0] * past_end + jnp.sum(motion[:, 1:] * there[:, 1:], -1) * past_wall
        return jnp.where(slope < 0.0, fraction, low), jnp.where(slope < 0.0, high, fraction)

    bounds = (jnp.zeros_like(place[:, 0]), jnp.ones_like(place[:, 0]))
    low, high = jax.lax.fori_loop(0, HALVINGS, halve, bounds)
    return 0.5 * (low + high)


def _equal_depths(
    place: Float[Array, "c 3"], motion: Float[Array, "c 3"], cylinders: Cylinders
) -> list[Float[Array, "c"]]:
    """Fractions of ``motion`` at which wall and either end are equally far: the roots of two quadratic equations."""
    across, sideways = place[:, 1:], motion[:, 1:]
    found = []
    for side in (1.0, -1.0):
        ahead = side * place[:, 0] - cylinders.half_length + cylinders.radius
        rate = side * motion[:, 0]
        square = rate * rate - jnp.sum(sideways * sideways, -1)
        linear = ahead * rate - jnp.sum(across * sideways, -1)
        constant = ahead * ahead - jnp.sum(across * across, -1)
        room = linear * linear - square * constant
        root = jnp.where(room > SMALLEST, jnp.sqrt(jnp.where(room > SMALLEST, room, 1.0)), 0.0)
        # Of the two forms of each root, the one that does not subtract nearly equal numbers.
        sum_of_two = -(linear + jnp.where(linear < 0.0, -root, root))
        found += [fraction_at(sum_of_two, square), fraction_at(constant, sum_of_two)]
    return found


def ray_distances(cylinders: Cylinders, origin: Vector, directions: Float[Array, "r 3"]) -> Float[Array, "r c"]:
    """Distance from ``origin`` to each surface along unit ``directions`` [m]; 0 from inside, ``FAR`` without a hit."""
    along, left, up = _own_axes(cylinders, origin - cylinders.centre).T[..., None]
    cosine, sine = jnp.cos(cylinders.heading)[:, None], jnp.sin(cylinders.heading)[:, None]
    x, y, z = directions.T
    radius = cylinders.radius[:, None]
    end_enter, end_leave = slab_crossing(along, x * cosine + y * sine, cylinders.half_length[:, None])
    sideways = y * cosine - x * sine
    squared = sideways * sideways + z * z
    # A line along the axis is inside the endless wall for ever, or never.
    parallel = squared < PARALLEL**2
    squared = jnp.maximum(squared, PARALLEL**2)
    ahead = jnp.where(parallel, 0.0, -(left * sideways + up * z))
    aside = left * z - up * sideways
    room = squared * radius**2 - jnp.where(parallel, squared * (left**2 + up**2), aside * aside)
    meets = room > GRAZING * squared
    chord = jnp.sqrt(jnp.where(meets, room, 1.0))
    enter = jnp.maximum(end_enter, (ahead - chord) / squared)
    leave = jnp.minimum(end_leave, (ahead + chord) / squared)
    return first_hit(enter, jnp.where(meets, leave, -1.0)).T
