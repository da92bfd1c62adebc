"""The filter over plain arrays and batches of problems, compiled once per configuration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.safety import Limits, Row, make_filter

FALLBACK = (-1.0, 2.0, -3.0)


def one(config):
    """The filter of one drone over plain arrays, with ``FALLBACK``."""
    safety_filter = make_filter(config)

    def apply(normal, offset, nominal, lower, upper):
        fallback = jnp.asarray(FALLBACK, dtype=nominal.dtype)
        return safety_filter(Row(normal, offset), nominal, Limits(lower, upper), fallback)

    return apply


def fields(problems):
    """In the order of the filter's arguments."""
    return problems.normal, problems.offset, problems.nominal, problems.lower, problems.upper


@functools.cache
def _batched(config):
    return jax.jit(jax.vmap(one(config)))


@functools.cache
def _batched_jacobian(config):
    apply = one(config)

    def outputs(normal, offset, nominal, lower, upper):
        safe = apply(normal, offset, nominal, lower, upper)
        return jnp.append(safe.command, safe.slack)

    def full(*args):
        normal, offset, nominal = jax.jacrev(outputs, argnums=(0, 1, 2))(*args)
        return jnp.concatenate([normal, offset[:, None], nominal], axis=1)

    return jax.jit(jax.vmap(full))


def _in_chunks(function, problems):
    """Few shapes, so few compilations: chunks of one size, the last one filled up with copies of its last problem."""
    n = len(problems.offset)
    size = 512 if n <= 4096 else 8192
    filled = [np.concatenate([x, np.repeat(x[-1:], -n % size, axis=0)]) for x in fields(problems)]
    parts = [function(*(x[start : start + size] for x in filled)) for start in range(0, n, size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)


def run(config, problems):
    """The filter's answers, in NumPy, with a leading batch axis."""
    return _in_chunks(_batched(config), problems)


def jacobian(config, problems):
    """d(command, slack)/d(normal, offset, nominal), (n, 4, 7)."""
    return _in_chunks(_batched_jacobian(config), problems)
