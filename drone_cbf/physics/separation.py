"""Gaps between the drones of a swarm, also between samples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.physics.obstacles import FAR


def swept_gaps(before: Float[Array, "n 3"], after: Float[Array, "n 3"], radius: float) -> Float[Array, "n"]:
    """Least gap of each drone's hull to any other [m] while all move straight from ``before`` to ``after`` [m] in the
    same time; negative is penetration, ``FAR`` for a single drone. ``radius`` [m] of each.

    The difference of two places moves straight as well, so its least length is that of a point to a segment.
    """
    count = before.shape[0]
    apart = before[:, None] - before[None]
    change = after[:, None] - after[None] - apart
    # Nowhere nearer than at the start where the two keep their distance.
    fraction = jnp.clip(-jnp.sum(apart * change, -1) / jnp.maximum(jnp.sum(change * change, -1), 1e-12), 0.0, 1.0)
    square = jnp.sum((apart + fraction[..., None] * change) ** 2, -1)
    square = jnp.where(jnp.eye(count, dtype=bool), jnp.float32(FAR) ** 2, square)
    return jnp.sqrt(jnp.min(square, axis=-1)) - 2.0 * radius


def least_gaps(path: Float[Array, "points n 3"], radius: float) -> Float[Array, "t n"]:
    """:func:`swept_gaps` of each step of the paths [m] of ``n`` drones, without gradient."""
    path = jax.lax.stop_gradient(path)
    return jax.lax.map(lambda ends: swept_gaps(ends[0], ends[1], radius), (path[:-1], path[1:]))
