"""Gaps between drones against dense sampling in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.physics.separation import least_gaps, swept_gaps

RADIUS, SAMPLES = 0.05, 4001


def sampled(before, after):
    """Least gap of each drone to any other over a step, by sampling."""
    fraction = np.linspace(0.0, 1.0, SAMPLES)[:, None, None]
    place = before + fraction * (after - before)
    apart = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1)
    apart[:, np.arange(len(before)), np.arange(len(before))] = np.inf
    return apart.min((0, 2)) - 2.0 * RADIUS


@pytest.mark.parametrize("seed", range(5))
def test_swept_gaps_equal_those_of_many_samples(seed):
    before, after = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, 6, 3))
    gaps = swept_gaps(*map(jnp.asarray, (before, after)), RADIUS)
    np.testing.assert_allclose(gaps, sampled(before, after), atol=2e-4)


def test_two_that_pass_through_each_other_between_samples_have_collided():
    before = np.array([[-0.2, 0.0, 0.0], [0.2, 0.0, 0.0]])
    gaps = least_gaps(jnp.asarray(np.stack([before, -before, -before])), RADIUS)
    np.testing.assert_allclose(gaps[0], -2.0 * RADIUS, atol=1e-6)
    np.testing.assert_allclose(gaps[1], 0.4 - 2.0 * RADIUS, atol=1e-6)


def test_a_drone_alone_has_nobody_near():
    assert swept_gaps(jnp.zeros((1, 3)), jnp.ones((1, 3)), RADIUS)[0] > 100.0
