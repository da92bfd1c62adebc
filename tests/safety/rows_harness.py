"""The filter with several rows over plain arrays and batches of problems, compiled once per configuration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.safety import Limits, Rows, make_rows_filter

FALLBACK = (-1.0, 2.0, -3.0)


def fields(p):
    """In the order of :func:`one`'s arguments."""
    return p.normal, p.offset, p.nominal, p.mask, p.lower, p.upper


def one(config):
    """The filter of one drone over plain arrays, with ``FALLBACK``."""
    safety_filter = make_rows_filter(config)

    def apply(normal, offset, nominal, mask, lower, upper):
        fallback = jnp.asarray(FALLBACK, dtype=nominal.dtype)
        return safety_filter(Rows(normal, offset, mask), nominal, Limits(lower, upper), fallback)

    return apply


@functools.cache
def batched(config):
    return jax.jit(jax.vmap(one(config)))


@functools.cache
def _batched_jacobian(config):
    def outputs(*args):
        safe = one(config)(*args)
        return jnp.concatenate([safe.command, safe.slack])

    def full(*args):
        normal, offset, nominal = jax.jacrev(outputs, argnums=(0, 1, 2))(*args)
        return jnp.concatenate([normal.reshape(*offset.shape[:1], -1), offset, nominal], axis=1)

    return jax.jit(jax.vmap(full))


def _in_chunks(function, p, size):
    """One shape, so one compilation; the last chunk is filled up with copies of its last problem."""
    n = len(p.offset)
    filled = [np.concatenate([x, np.repeat(x[-1:], -n % size, axis=0)]) for x in fields(p)]
    parts = [jax.device_get(function(*(x[start : start + size] for x in filled))) for start in range(0, n, size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)


def run(config, p):
    """The filter's answers, in NumPy, with a leading batch axis."""
    return _in_chunks(batched(config), p, 512)


def jacobian(config, p):
    """d(command, slacks)/d(normal (k, 3), offset, nominal), (n, 3 + k, 4 k + 3)."""
    return _in_chunks(_batched_jacobian(config), p, 64)
