"""Depth camera: a pinhole image of inverse depth, max-pooled to 12 x 16, that looks where the drone heads.

Settings of DiffPhysDrone (Zhang et al. 2025): tangent of half the horizontal field of view, clipping, scale and noise
of the image. The camera stays level. Its frame is x forward, y left, z up; depth is the x coordinate. The nearest point
of each pooled pixel is reported too: unlabelled, without velocity.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import SensorConfig
from drone_cbf.draws import standard_normal
from drone_cbf.perception.readings import DEPTH_COLUMNS, DEPTH_PIXELS, DEPTH_ROWS, OwnMotion, Reading
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.obstacles import Obstacles, ray_distances
from drone_cbf.physics.solids.lines import place_of_nearest

HALF_WIDTH, HALF_HEIGHT = 0.82, 0.615
"""Tangents of half the field of view: 78.7 by 63.2 degrees, for an image of 4:3."""
NEAREST, FARTHEST = 0.3, 24.0  # Depths beyond these are reported as these [m]
IMAGE_NOISE = 0.02  # Standard deviation of the image
EDGE = 0.97  # Part of the field in which a point counts as surely in view


@struct.dataclass
class DepthErrors:
    """Errors of one reading; of ``p`` pooled pixels."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    ranges: Float[Array, "p"]  # Of the depth [m]
    image: Float[Array, "p"]  # Of the image, besides


def draw_depth_errors(level: Scalar, obstacles: int, key: jax.Array) -> DepthErrors:
    """Errors of one reading; ``level``: standard deviation of own motion [m, m/s] and of depths [m]."""
    own = level * standard_normal(jax.random.uniform(jax.random.fold_in(key, 0), (6,), jnp.float32))
    # One word per pixel for both errors: in flight, drawing random numbers costs as much as casting the rays.
    words = jax.random.bits(key, (DEPTH_PIXELS,), jnp.uint32)
    depth, image = (standard_normal(half.astype(jnp.float32) * 2.0**-16) for half in (words >> 16, words & 0xFFFF))
    return DepthErrors(position=own[:3], velocity=own[3:], ranges=level * depth, image=IMAGE_NOISE * image)


@functools.cache
def pixel_rays(factor: int) -> np.ndarray:
    """Rays through the pixels at unit depth, camera frame: (pooled pixels, ``factor``^2, 3) float32.

    Pooled pixels by row from the top and column from the left, each with its ``factor`` by ``factor`` pixels.
    """
    up, left = (
        half * (1.0 - (2.0 * np.arange(count * factor) + 1.0) / (count * factor)).reshape(count, factor)
        for half, count in ((HALF_HEIGHT, DEPTH_ROWS), (HALF_WIDTH, DEPTH_COLUMNS))
    )
    shape = (DEPTH_ROWS, DEPTH_COLUMNS, factor, factor)
    left, up = np.broadcast_to(left[None, :, None, :], shape), np.broadcast_to(up[:, None, :, None], shape)
    rays = np.stack([np.ones(shape), left, up], -1)
    return rays.reshape(DEPTH_PIXELS, factor * factor, 3).astype(np.float32)


def to_world(vectors: Float[Array, "*n 3"], yaw: Float[Array, "*#m"]) -> Float[Array, "*n 3"]:
    """Vectors of the camera (or yaw) frame in world axes; ``yaw`` [rad] of the camera."""
    cosine, sine = jnp.cos(yaw), jnp.sin(yaw)
    x, y, z = (vectors[..., axis] for axis in range(3))
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y, z], -1)


def directed(yaw: Scalar | None) -> Scalar:
    """The yaw of a drone that has a camera."""
    assert yaw is not None, "a camera needs a heading"
    return yaw


def to_camera(vectors: Float[Array, "*n 3"], yaw: Float[Array, "*#m"]) -> Float[Array, "*n 3"]:
    """Inverse of :func:`to_world`."""
    return to_world(vectors, -yaw)


def pixel_of(place: Float[Array, "*n 3"], part: float = 1.0) -> tuple[Int[Array, "*n"], Bool[Array, "*n"]]:
    """Pooled pixel of each ``place`` in the camera frame [m], and whether it is within ``part`` of the field."""
    depth = jnp.maximum(place[..., 0], 1e-6)
    left, up = place[..., 1] / (HALF_WIDTH * depth), place[..., 2] / (HALF_HEIGHT * depth)
    inside = (place[..., 0] > 0.0) & (jnp.abs(left) <= part) & (jnp.abs(up) <= part)
    row, column = (
        jnp.clip((0.5 * count * (1.0 - side)).astype(jnp.int32), 0, count - 1)
        for side, count in ((jnp.clip(up, -1.0, 1.0), DEPTH_ROWS), (jnp.clip(left, -1.0, 1.0), DEPTH_COLUMNS))
    )
    return row * DEPTH_COLUMNS + column, inside


def farthest_depth(config: SensorConfig) -> float:
    """Depth beyond which nothing is seen [m]."""
    return min(config.range, FARTHEST)


def pooled_depths(reading: Reading, config: SensorConfig) -> Float[Array, "p"]:
    """Depth up to which each pooled pixel shows free space [m]."""
    forward = to_camera(reading.points - reading.own.position, directed(reading.own.yaw))[:, 0]
    return jnp.where(reading.hit, forward, farthest_depth(config))


def make_depth_camera(config: SensorConfig) -> Callable[..., Reading]:
    """Function (obstacles now, state, place, step, errors, their standard deviation [m]) -> reading.

    The image is taken at the true position, but points are placed by the measured one, as on a real drone. The yaw is
    measured exactly. No gradient passes: the image does not change when the drone flies elsewhere.
    """
    see, depths = make_seeing(config), make_depths(config)

    def read(
        obstacles: Obstacles, state: DroneState, place: Vector, step: Array, errors: DepthErrors, noise: Scalar
    ) -> Reading:
        own = OwnMotion(
            position=state.position + errors.position, velocity=state.velocity + errors.velocity, yaw=state.yaw
        )
        origin, yaw = jax.lax.stop_gradient((state.position, directed(state.yaw)))
        return see(depths(obstacles, origin, yaw), own, noise, errors.ranges, errors.image)

    return read


def make_depths(config: SensorConfig) -> Callable[[Obstacles, Vector, Scalar], Float[Array, "p n"]]:
    """Function (obstacles now, position [m] and yaw [rad] of the camera) -> exact depth of pixels, by pooled pixel [m].

    What is farther than the camera sees has any depth beyond that.
    """
    farthest = farthest_depth(config)
    rays = pixel_rays(config.depth_width // DEPTH_COLUMNS)
    secants = np.linalg.norm(rays, axis=-1)
    units = (rays / secants[..., None]).reshape(-1, 3)

    def depths(obstacles: Obstacles, position: Vector, yaw: Scalar) -> Float[Array, "p n"]:
        along = ray_distances(obstacles, position, to_world(jnp.asarray(units), yaw), farthest * float(secants.max()))
        return along.reshape(secants.shape) / secants

    return depths


Seeing = Callable[..., Reading]
"""(depth of each pixel, by pooled pixel (p, n) [m], measured own motion, its standard deviation [m, m/s], errors of the
pooled depths (p,) [m] and of the image (p,)) -> reading. Without errors both are 0."""


def make_seeing(config: SensorConfig) -> Seeing:
    """What a depth image shows: the nearest of the pixels that are pooled, as an image and as points."""
    rays, farthest = pixel_rays(config.depth_width // DEPTH_COLUMNS), farthest_depth(config)

    def see(
        depths: Float[Array, "p n"],
        own: OwnMotion,
        noise: Scalar,
        depth_errors: Float[Array, "p"] | float = 0.0,
        image_errors: Float[Array, "p"] | float = 0.0,
    ) -> Reading:
        held, yaw = jax.lax.stop_gradient((own.position, directed(own.yaw)))
        nearest = place_of_nearest(depths)[:, None]
        exact = jnp.take_along_axis(depths, nearest, axis=1)[:, 0]
        ray = jnp.take_along_axis(jnp.asarray(rays), nearest[..., None], axis=1)[:, 0]
        hit = exact < farthest
        measured = jnp.clip(jnp.where(hit, exact + depth_errors, farthest), NEAREST, farthest)
        image = 3.0 / measured - 0.6 + image_errors
        return jax.lax.stop_gradient(
            Reading(
                own=own,
                noise=noise,
                points=held + to_world(measured[:, None] * ray, yaw),
                hit=hit,
                velocity=jnp.zeros_like(ray),
                spread=jnp.broadcast_to(noise, exact.shape),
                image=image.reshape(DEPTH_ROWS, DEPTH_COLUMNS),
            )
        ).replace(own=own)

    return see


def by_pooled_pixel(image: Float[Array, "r c"]) -> Float[Array, "p n"]:
    """The pixels of an image, rows from the top and columns from the left, in the order of :func:`pixel_rays`."""
    factor = image.shape[1] // DEPTH_COLUMNS
    blocks = image.reshape(DEPTH_ROWS, factor, DEPTH_COLUMNS, factor)
    return blocks.transpose(0, 2, 1, 3).reshape(DEPTH_PIXELS, factor * factor)


def as_image(depths: Float[Array, "p n"]) -> Float[Array, "r c"]:
    """Inverse of :func:`by_pooled_pixel`."""
    factor = math.isqrt(depths.shape[1])
    blocks = depths.reshape(DEPTH_ROWS, DEPTH_COLUMNS, factor, factor)
    return blocks.transpose(0, 2, 1, 3).reshape(DEPTH_ROWS * factor, DEPTH_COLUMNS * factor)


def make_depth_view(config: SensorConfig) -> Callable[[Float[Array, "n 3"], Reading], Bool[Array, "n"]]:
    """Function (offset from the drone [m], reading) -> whether a point there would be seen now.

    Not what lies behind something nearer, nor nearer than the camera measures.
    """

    def in_view(offset: Float[Array, "n 3"], reading: Reading) -> Bool[Array, "n"]:
        place = to_camera(offset, directed(reading.own.yaw))
        pixel, inside = pixel_of(place, EDGE)
        depth = place[:, 0]
        return inside & (depth > NEAREST) & (depth <= pooled_depths(reading, config)[pixel])

    return in_view
