"""Rotation matrices of obstacles. Angles in rad; columns are the turned axes in the world frame."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def about_vertical(yaw: Float[Array, "*n"]) -> Float[Array, "*n 3 3"]:
    """Rotation about z, from x towards y."""
    cosine, sine, zero = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1.0]
    return jnp.stack(rows, -1).reshape(*yaw.shape, 3, 3)


def tilted(yaw: Float[Array, "*n"], towards: Float[Array, "*n"], tilt: Float[Array, "*n"]) -> Float[Array, "*n 3 3"]:
    """Rotation by ``yaw`` about z, then by ``tilt``, so that the own z axis leans in direction ``towards``."""
    cosine, sine, zero = jnp.cos(tilt), jnp.sin(tilt), jnp.zeros_like(tilt)
    rows = [cosine, zero, sine, zero, zero + 1.0, zero, -sine, zero, cosine]
    lean = jnp.stack(rows, -1).reshape(*tilt.shape, 3, 3)  # z leans towards x
    return about_vertical(towards) @ lean @ about_vertical(yaw - towards)
