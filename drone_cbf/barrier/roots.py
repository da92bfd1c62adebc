"""Where a condition turns, by bisection: no derivative needed, and a known number of steps inside ``jit``."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar

HALVINGS = 14
"""Of an interval of a few metres: leaves less than a millimetre."""


def bisect(above: Callable[[Scalar], jax.Array], end: float) -> Scalar:
    """Where ``above`` turns from false to true on [0, ``end``], to ``end`` / 2^14; an end where it does not turn."""

    def halve(_: jax.Array, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = 0.5 * (low + high)
        beyond = above(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.float32(0.0), jnp.float32(end)))
    return 0.5 * (low + high)
