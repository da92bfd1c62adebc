"""Sums of products as if in twice the working precision."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def less_products(
    total: Float[Array, "*batch"], factors: Sequence[tuple[Float[Array, "*#batch"], Float[Array, "*#batch"]]]
) -> Float[Array, "*shape"]:
    """``total`` less the product of each pair of ``factors``, rounded once. Not differentiable.

    Algorithm Dot2 of Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26 (2005).
    """
    correction = jnp.zeros_like(total)
    for first, second in factors:  # a sum over the last axis does not vectorise and is three times slower
        product, product_error = _two_product(-first, second)
        total, sum_error = _two_sum(total, product)
        correction = correction + (product_error + sum_error)
    return total + correction


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """``x + y`` rounded, and the rounding error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x: Array, y: Array) -> tuple[Array, Array]:
    """``x * y`` rounded, and the rounding error (Dekker). Exact even if the compiler fuses multiply and add."""
    product = x * y
    x_high, x_low = _split(x)
    y_high, y_low = _split(y)
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, error


def _split(x: Array) -> tuple[Array, Array]:
    """Upper and lower half of the significand by bit masking; fused multiply-add would break Veltkamp's split."""
    bits, mask = (jnp.uint64, 0xFFFFFFFFF8000000) if x.dtype == jnp.float64 else (jnp.uint32, 0xFFFFF000)
    high = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, bits) & bits(mask), x.dtype)
    return high, x - high
