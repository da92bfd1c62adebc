"""Gusts: the Ornstein-Uhlenbeck process and its stationary law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.physics.randomisation import gust_history

PATHS, STEPS = 4096, 100
SPREAD = np.array([1.0, 0.5, 0.2])
MEMORY = 0.5
"""Correlation time [s]."""
STATISTICS = 5.0 * np.sqrt(2.0 / PATHS)
"""Five standard errors of a variance, relative, from so many independent paths."""


@pytest.fixture(scope="module", params=[0.05, 0.2])
def gusts(request):
    """Period and (paths, steps, 3) from calm."""
    spread = jnp.asarray(SPREAD, jnp.float32)
    walk = jax.jit(jax.vmap(lambda key: gust_history(spread, MEMORY, request.param, STEPS, key)))
    return request.param, np.asarray(walk(jax.random.split(jax.random.key(0), PATHS)), np.float64)


def test_the_air_is_calm_at_first(gusts):
    assert np.all(gusts[1][:, 0] == 0.0)


def test_the_variance_is_that_of_the_process_at_every_time(gusts):
    period, paths = gusts
    keep = np.exp(-2.0 * period / MEMORY * np.arange(STEPS))
    np.testing.assert_allclose(paths.var(0), SPREAD**2 * (1.0 - keep)[:, None], rtol=STATISTICS)


def test_gusts_forget_over_the_correlation_time(gusts):
    period, paths = gusts
    for lag in (1, 2, 5):
        before, after = paths[:, STEPS - 1 - lag], paths[:, STEPS - 1]
        correlation = (before * after).mean(0) / (before.std(0) * after.std(0))
        np.testing.assert_allclose(correlation, np.exp(-lag * period / MEMORY), atol=5.0 / np.sqrt(PATHS))


def test_the_mean_is_calm(gusts):
    assert np.all(np.abs(gusts[1][:, -1].mean(0)) < 5.0 * SPREAD / np.sqrt(PATHS))


def test_without_spread_there_is_no_gust():
    assert np.all(np.asarray(gust_history(jnp.zeros(3), MEMORY, 0.05, 4, jax.random.key(0))) == 0.0)


def test_every_period_decays_the_last_gust_and_adds_a_kick():
    """The kicks, recovered from the history, are the normal draws times the spread of the exact transition."""
    key = jax.random.key(3)
    history = np.asarray(gust_history(jnp.ones(3), MEMORY, 0.1, 6, key), np.float64)
    keep = np.exp(-0.1 / MEMORY)
    kicks = (history[1:] - keep * history[:-1]) / np.sqrt(1.0 - keep**2)
    # 1e-5: float32 numbers of the order of one, divided by sqrt(1 - keep^2) = 0.57.
    np.testing.assert_allclose(kicks, jax.random.normal(key, (6, 3), jnp.float32)[:-1], atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_shortest_histories_work(steps):
    assert gust_history(jnp.ones(3), MEMORY, 0.1, steps, jax.random.key(0)).shape == (steps, 3)
