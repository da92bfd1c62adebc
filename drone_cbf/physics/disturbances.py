"""Wind gusts: an Ornstein-Uhlenbeck process around the scene's mean wind."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Vector
from drone_cbf.physics.drone import DroneParams


def draw_gust(params: DroneParams, time_step: float, key: jax.Array) -> Vector:
    """The random part of one period's change of wind [m/s]."""
    keep = jnp.exp(-time_step / params.gust_time)
    return params.gust * jnp.sqrt(1.0 - keep * keep) * jax.random.normal(key, (3,), jnp.float32)


def next_gust(gust: Vector, drawn: Vector, params: DroneParams, time_step: float) -> Vector:
    """Gust one period later [m/s]: the exact transition, whose stationary standard deviation is ``params.gust``."""
    return jnp.exp(-time_step / params.gust_time) * gust + drawn
