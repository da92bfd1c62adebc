"""Bisection with a fixed number of steps, for use inside ``jit``."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar

HALVINGS = 14  # Number of halvings; reduces a few metres to less than a millimetre


def bisect(above: Callable[[Scalar], jax.Array], end: float) -> Scalar:
    """Where ``above`` changes from false to true on [0, ``end``], to ``end`` / 2^14; an end point if it does not."""

    def halve(_: jax.Array, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = 0.5 * (low + high)
        beyond = above(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.float32(0.0), jnp.float32(end)))
    return 0.5 * (low + high)
