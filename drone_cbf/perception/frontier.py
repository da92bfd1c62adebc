"""The frontier of what a depth camera has seen: how far the way ahead was observed to be free.

What was never seen is not free. The last views are kept, each with the depth up to which its pixels showed free space;
a place is observed if one of them showed it. Memory: a new view begins when the camera has moved or turned enough.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.config import SystemConfig
from drone_cbf.perception.depth import pixel_of, pooled_depths, to_camera
from drone_cbf.perception.readings import DEPTH_PIXELS, Reading

VIEWS = 8
MOVED, TURNED = 0.6, 0.6  # A view is kept when the camera is this far [m] or turned by this much [rad] from the last
COARSE, FINE = 16, 8  # Samples of the way, then of the stretch on which it ends


@struct.dataclass
class Views:
    """The last ``n`` views, the present one first. One without depths has shown nothing."""

    position: Float[Array, "n 3"]  # Of the camera [m]
    yaw: Float[Array, "n"]  # [rad]
    depths: Float[Array, "n p"]  # Depth up to which each pooled pixel showed free space [m]
    age: Float[Array, "n"]  # [s]


def no_views() -> Views:
    """Before the first reading."""
    return Views(
        position=jnp.zeros((VIEWS, 3), jnp.float32),
        yaw=jnp.zeros(VIEWS, jnp.float32),
        depths=jnp.zeros((VIEWS, DEPTH_PIXELS), jnp.float32),
        age=jnp.zeros(VIEWS, jnp.float32),
    )


def make_remembering(system: SystemConfig) -> Callable[[Views, Reading, Vector], Views]:
    """Function (views, reading, estimated position [m]) -> views with the present one; old ones are forgotten."""
    config, dt = system.sensor, system.physics.time_step

    def remember(views: Views, reading: Reading, position: Vector) -> Views:
        views, reading, position = jax.lax.stop_gradient((views, reading, position))
        now = Views(
            position=position,
            yaw=jnp.asarray(reading.own.yaw),
            depths=pooled_depths(reading, config),
            age=jnp.zeros_like(position[0]),
        )
        kept = views.position[1] - position
        turn = jnp.abs(jnp.sin(0.5 * (views.yaw[1] - now.yaw)))
        begins = (jnp.sum(kept * kept) > MOVED**2) | (turn > jnp.sin(0.5 * TURNED)) | (jnp.max(views.depths[1]) <= 0.0)
        shifted = jax.tree.map(lambda old: jnp.where(begins, jnp.roll(old, 1, axis=0), old), views)
        updated = jax.tree.map(lambda old, new: old.at[0].set(new), shifted, now)
        age = updated.age.at[1:].add(dt)
        fresh = (age <= config.map_memory)[:, None]
        return updated.replace(age=age, depths=jnp.where(fresh, updated.depths, 0.0))

    return remember


def observed(views: Views, places: Float[Array, "m 3"]) -> Bool[Array, "m"]:
    """Whether some view showed each of ``places`` [m] to be free."""
    place = to_camera(places - views.position[:, None], views.yaw[:, None])
    pixel, inside = pixel_of(place)
    seen = inside & (place[..., 0] <= jnp.take_along_axis(views.depths, pixel, axis=1))
    return jnp.any(seen, axis=0)


def seen_ahead(views: Views, start: Vector, velocity: Vector, reach: Scalar) -> Scalar:
    """How far from ``start`` [m] along ``velocity`` the way was observed, at most ``reach`` [m].

    To within ``reach`` / 128, from below; gaps shorter than ``reach`` / 16 are overlooked. No gradient.
    """
    start, velocity, reach = jax.lax.stop_gradient((start, velocity, reach))
    ahead = velocity / safe_norm(velocity)

    def last_seen(first: Scalar, stride: Scalar, count: int) -> Scalar:
        distances = first + stride * jnp.arange(1, count + 1)
        seen = observed(views, start + distances[:, None] * ahead)
        return first + stride * jnp.sum(jnp.cumprod(seen.astype(jnp.float32)))

    coarse = last_seen(jnp.float32(0.0), reach / COARSE, COARSE)
    fine = last_seen(coarse, reach / (COARSE * FINE), FINE)
    return jnp.minimum(fine, reach)
