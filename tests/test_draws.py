"""Draws made at once: of the shapes asked for, independent, and distributed as they say (against scipy)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from drone_cbf.draws import (
    between,
    index_by_weight,
    standard_exponential,
    standard_normal,
    uniform_draws,
    unless_silent,
)

COUNT = 20_000
SURE = 1e-4
"""Smallest p-value of a Kolmogorov-Smirnov test at a fixed key: a wrong distribution gives one below 1e-20."""

QUANTILE_ERROR = 5e-5
"""Rounding of u in float32 (6e-8) over the density at 3.1 standard deviations (0.003), and as much again."""


@pytest.fixture(scope="module")
def draw():
    return uniform_draws(jax.random.key(3), first=(COUNT,), point=(COUNT, 3), single=())


def test_every_name_holds_an_array_of_its_shape_that_the_key_decides(draw):
    again = uniform_draws(jax.random.key(3), first=(COUNT,), point=(COUNT, 3), single=())
    other = uniform_draws(jax.random.key(4), first=(COUNT,), point=(COUNT, 3), single=())
    assert {name: x.shape for name, x in draw.items()} == {"first": (COUNT,), "point": (COUNT, 3), "single": ()}
    for name in draw:
        np.testing.assert_array_equal(draw[name], again[name])
    assert not np.array_equal(draw["first"], other["first"])


def test_names_do_not_share_numbers(draw):
    columns = np.stack([draw["first"], *np.asarray(draw["point"]).T])
    assert np.abs(np.corrcoef(columns) - np.eye(4)).max() < 5.0 / np.sqrt(COUNT)


@pytest.mark.parametrize(
    ("transform", "distribution"),
    [
        (lambda u: between(u, -2.0, 3.0), stats.uniform(-2.0, 5.0)),
        (standard_normal, stats.norm()),
        (standard_exponential, stats.expon()),
    ],
)
def test_numbers_are_distributed_as_named(draw, transform, distribution):
    assert stats.kstest(np.asarray(transform(draw["first"]), np.float64), distribution.cdf).pvalue > SURE


def test_quantiles_are_those_of_scipy_and_finite_at_both_ends():
    u = jnp.linspace(0.001, 0.999, 101)
    np.testing.assert_allclose(standard_normal(u), stats.norm.ppf(np.asarray(u, np.float64)), atol=QUANTILE_ERROR)
    np.testing.assert_allclose(standard_exponential(u), stats.expon.ppf(np.asarray(u, np.float64)), rtol=1e-4)
    ends = jnp.array([0.0, np.nextafter(np.float32(1.0), np.float32(0.0))])
    assert np.all(np.isfinite(standard_normal(ends))) and np.all(np.isfinite(standard_exponential(ends)))
    assert 4.5 < float(standard_normal(ends)[1]) < 5.5 and float(standard_exponential(ends)[0]) == 0.0


def test_an_index_is_as_likely_as_its_weight_and_never_one_of_weight_zero(draw):
    weights = jnp.array([0.0, 3.0, 0.0, 1.0, 4.0, 0.0])
    chosen = np.asarray(jax.vmap(lambda u: index_by_weight(u, weights))(draw["first"]))
    shares = np.bincount(chosen, minlength=6) / COUNT
    np.testing.assert_allclose(shares, np.asarray(weights) / 8.0, atol=5.0 * 0.5 / np.sqrt(COUNT))
    assert np.all(shares[[0, 2, 5]] == 0.0)
    ends = [index_by_weight(jnp.float32(u), weights) for u in (0.0, np.nextafter(np.float32(1.0), np.float32(0.0)))]
    assert ends == [1, 4]


def test_errors_of_a_level_are_those_drawn_unless_all_levels_are_zero():
    calls = []

    def draw(level, key):
        jax.debug.callback(lambda: calls.append(1))
        return level * standard_normal(jax.random.uniform(key, (3,)))

    keys, levels = jax.random.split(jax.random.key(0), (2, 4)), jnp.array([0.0, 0.5])
    of_batches = jax.jit(jax.vmap(jax.vmap(unless_silent(draw), in_axes=(None, 0))))
    silent = np.asarray(of_batches(jnp.zeros(2), keys))
    jax.effects_barrier()
    assert not calls and np.all(silent == 0.0)
    drawn = jax.vmap(jax.vmap(draw, in_axes=(None, 0)))(levels, keys)
    np.testing.assert_allclose(of_batches(levels, keys), drawn, rtol=1e-5)
    assert np.all(np.asarray(drawn)[1] != 0.0)
