"""Wind gusts: an Ornstein-Uhlenbeck process around the scene's mean wind."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector


def gust_history(
    spread: Vector, correlation_time: float, time_step: float, steps: int, key: jax.Array
) -> Float[Array, "t 3"]:
    """Deviation of the wind from its mean in each of ``steps`` periods [m/s], starting from zero.

    Sampled from the exact transition of the process, with stationary standard deviation ``spread`` [m/s] and
    autocorrelation time ``correlation_time`` [s].
    """
    keep = jnp.exp(jnp.float32(-time_step / correlation_time))
    kicks = spread * jnp.sqrt(1.0 - keep * keep) * jax.random.normal(key, (steps, 3), jnp.float32)

    def one_period(gust: Vector, kick: Vector) -> tuple[Vector, Vector]:
        return keep * gust + kick, gust

    return jax.lax.scan(one_period, jnp.zeros(3, jnp.float32), kicks)[1]
