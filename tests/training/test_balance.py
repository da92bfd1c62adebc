"""The common descent direction of two gradients, against brute force and its own promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.training.update.balance import Objectives, balanced_gradient, min_norm_point, split_objectives


def trees(seed, size=1.0, other=1.0):
    rng = np.random.default_rng(seed)

    def draw(scale):
        return {
            "a": jnp.asarray(scale * rng.normal(size=3), jnp.float32),
            "b": jnp.asarray(scale * rng.normal(), jnp.float32),
        }

    return draw(size), draw(other)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


@pytest.mark.parametrize(("size", "other"), [(1.0, 1.0), (1e-3, 1.0), (1.0, 30.0), (1e-8, 1e-8)])
def test_no_point_between_two_gradients_is_smaller(size, other):
    for seed in range(8):
        first, second = trees(seed, size, other)
        smallest, share = min_norm_point(first, second)
        shares = np.linspace(0.0, 1.0, 100_001)[:, None]
        tried = np.linalg.norm(shares * flat(first) + (1.0 - shares) * flat(second), axis=1)
        # float32: the norm's square is flat around its minimum.
        assert np.linalg.norm(flat(smallest)) <= tried.min() * (1.0 + 1e-5)
        assert abs(float(share) - shares[tried.argmin(), 0]) < 1e-3


def test_against_the_direction_neither_objective_rises():
    for seed in range(50):
        first, second = trees(seed, 1.0, 3.0)
        smallest = flat(min_norm_point(first, second)[0])
        least = float(smallest @ smallest)
        assert min(smallest @ flat(first), smallest @ flat(second)) >= least - 1e-5 * max(1.0, least)


def test_opposed_gradients_cancel_and_equal_ones_stay():
    first, _ = trees(0)
    opposed = jax.tree.map(jnp.negative, first)
    smallest, share = min_norm_point(first, opposed)
    assert np.abs(flat(smallest)).max() < 1e-6 and float(share) == pytest.approx(0.5)
    smallest, _ = min_norm_point(first, first)
    np.testing.assert_allclose(flat(smallest), flat(first), rtol=1e-6)


def test_a_nan_gradient_is_not_hidden():
    first, second = trees(0)
    broken = first | {"b": jnp.float32(jnp.nan)}
    assert np.isnan(flat(min_norm_point(broken, second)[0])).all()


def test_the_policy_is_balanced_and_the_barrier_gets_the_sum():
    """Squared distances to two points: the direction of least norm from the origin is the foot on the line between."""
    to = {"goal": jnp.array([2.0, 0.0]), "free": jnp.array([0.0, 1.0])}
    networks = {"policy": jnp.zeros(2), "barrier": jnp.array([1.0, -1.0])}

    def loss(networks):
        policy, barrier = networks["policy"], networks["barrier"]
        terms = {
            "goal": 0.5 * jnp.sum((policy - to["goal"]) ** 2),
            "collision": 0.5 * jnp.sum((policy - to["free"]) ** 2) + 3.0 * barrier[0],
            "cbf_value": jnp.sum(barrier**2),
        }
        return split_objectives(terms), jnp.float32(7.0)

    gradient, beside, share = balanced_gradient(loss, networks)
    # Foot of the perpendicular from 0 on the line from (2, 0) to (0, 1): (0.4, 0.8); a fifth of the way to the goal.
    np.testing.assert_allclose(gradient["policy"], [-0.4, -0.8], rtol=1e-6)
    assert float(share) == pytest.approx(0.2) and beside == 7.0
    np.testing.assert_allclose(gradient["barrier"], [2.0 + 3.0, -2.0], rtol=1e-6)


def test_every_term_is_in_exactly_one_objective():
    named = {"goal": 1.0, "effort": 2.0, "distill": 4.0, "cbf_hdot": 8.0}
    careful = {"clearance": 16.0, "collision": 32.0, "slack": 64.0, "intervention": 128.0, "fallback": 256.0}
    sums = split_objectives({name: jnp.float32(value) for name, value in (named | careful).items()})
    assert isinstance(sums, Objectives)
    assert sums.efficiency == 15.0 and sums.safety == 496.0
    assert split_objectives(named).safety == 0.0
