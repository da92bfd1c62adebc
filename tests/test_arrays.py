"""Safe helpers: values against float64 formulas, and gradients at the points where the plain formula has none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drone_cbf.arrays import (
    bound_magnitude,
    bounded_gradient,
    concatenate_trees,
    largest_entry,
    limit_gradient,
    safe_norm,
    saturated,
    scale_gradient,
    smooth_cutoff,
    softplus,
    split_tree,
    tree_all_finite,
    tree_norm,
    unit,
)

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Relative: a handful of float32 operations."""
EPSILON = 1e-6
"""Default smoothing of ``safe_norm`` and ``unit``."""


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(scale=3.0, size=(200, 3)).astype(np.float32)


def test_safe_norm_is_the_norm_within_its_epsilon(vectors):
    difference = np.asarray(safe_norm(jnp.asarray(vectors))) - np.linalg.norm(vectors.astype(np.float64), axis=-1)
    assert np.all(np.abs(difference) <= EPSILON + ROUNDING * 10.0)
    assert safe_norm(jnp.array([3.0, 4.0]), 12.0) == pytest.approx(13.0, rel=ROUNDING)


def test_safe_norm_at_zero_is_epsilon_with_zero_gradient():
    value, gradient = jax.value_and_grad(safe_norm)(jnp.zeros(3))
    assert value == pytest.approx(EPSILON, rel=ROUNDING)
    assert np.all(np.asarray(gradient) == 0.0)


def test_the_gradient_of_safe_norm_is_the_direction(vectors):
    gradient = np.asarray(jax.vmap(jax.grad(safe_norm))(jnp.asarray(vectors)))
    direction = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(gradient, direction, atol=ROUNDING)


def test_unit_is_the_direction_and_zero_stays_zero(vectors):
    direction = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(unit(jnp.asarray(vectors)), direction, atol=ROUNDING)
    assert np.all(np.asarray(unit(jnp.zeros(3))) == 0.0)


def test_the_gradient_of_unit_at_zero_is_finite_and_that_of_its_smoothing():
    jacobian = np.asarray(jax.jacobian(lambda x: unit(x, 0.5))(jnp.zeros(3)))
    np.testing.assert_allclose(jacobian, np.eye(3) / 0.5, rtol=ROUNDING)
    assert np.all(np.isfinite(jax.jacobian(unit)(jnp.zeros(3))))


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_softplus_is_the_smooth_positive_part(sharpness):
    x = np.linspace(-50.0, 50.0, 2001, dtype=np.float32)
    value = np.asarray(softplus(jnp.asarray(x), sharpness))
    expected = np.logaddexp(0.0, sharpness * x.astype(np.float64)) / sharpness
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-30)
    over = value - np.maximum(x, 0.0)
    assert np.all(over >= -ROUNDING * np.abs(x)) and over.max() <= np.log(2.0) / sharpness * (1.0 + ROUNDING)


@pytest.mark.parametrize("x", [-1e4, 0.0, 1e4])
def test_the_gradient_of_softplus_stays_within_zero_and_one_far_out(x):
    assert 0.0 <= float(jax.grad(lambda y: softplus(y, 10.0))(x)) <= 1.0


def test_the_cutoff_is_one_inside_zero_outside_and_half_between():
    distance = jnp.array([0.0, 6.0, 7.0, 8.0, 100.0])
    np.testing.assert_allclose(smooth_cutoff(distance, 8.0), [1.0, 1.0, 0.5, 0.0, 0.0], atol=ROUNDING)


def test_the_cutoff_and_its_slope_are_continuous():
    distance = np.linspace(5.0, 9.0, 4001)
    step = distance[1] - distance[0]
    slope = np.asarray(jax.vmap(jax.grad(lambda d: smooth_cutoff(d, 8.0)))(jnp.asarray(distance, jnp.float32)))
    value = np.asarray(smooth_cutoff(jnp.asarray(distance, jnp.float32), 8.0))
    # w = 1 - x^2 (3 - 2x) with x = (d / 8 - 0.75) / 0.25 = d / 2 - 3: |w'| <= 3/2 * 1/2, |w''| <= 6 * 1/4.
    # 1e-5: a distance near 8 carries 5e-7 of rounding, twice, through |w''|.
    assert np.all(np.diff(value) <= 1e-6) and np.abs(np.diff(value)).max() <= 0.75 * step + 1e-6
    assert np.abs(np.diff(slope)).max() <= 1.5 * step + 1e-5
    assert slope.min() == pytest.approx(-0.75, abs=1e-3)


def test_what_was_joined_is_parted_into_the_same_trees():
    trees = [{"a": jnp.arange(6.0).reshape(2, 3) + 10 * n, "b": jnp.arange(2) + n} for n in range(3)]
    together = concatenate_trees(*trees)
    np.testing.assert_array_equal(together["b"], [0, 1, 1, 2, 2, 3])
    for before, after in zip(trees, split_tree(together, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_scale_gradient_is_the_identity_with_a_weighted_gradient(weight):
    tree = {"a": jnp.arange(3.0), "b": jnp.float32(2.0)}

    def total(x, scale):
        y = scale_gradient(x, weight) if scale else x
        return jnp.sum(y["a"] ** 2) * y["b"]

    value, gradient = jax.value_and_grad(total)(tree, True)
    plain_value, plain = jax.value_and_grad(total)(tree, False)
    assert value == plain_value
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, weight * y, rtol=ROUNDING), gradient, plain)


def test_a_gradient_with_no_weight_is_not_computed_at_all():
    def steep(x):
        return jnp.sqrt(scale_gradient(x, 0.0))

    assert jax.grad(steep)(jnp.float32(0.0)) == 0.0, "infinity times zero would be NaN"


@pytest.mark.parametrize(
    ("slope", "expected"), [(3.0, 3.0), (-2e12, -1e12), (np.inf, 0.0), (np.nan, 0.0), (-1e-30, -1e-30)]
)
def test_bounded_gradient_passes_on_what_is_finite_cut_to_its_bound(slope, expected):
    value, gradient = jax.value_and_grad(lambda x: jnp.float32(slope) * bounded_gradient(x))(jnp.float32(0.5))
    assert gradient == np.float32(expected) and np.array_equal(value, np.float32(0.5 * slope), equal_nan=True)


LIMIT = 2.0


def limited(tree, weights):
    """A function of ``tree`` whose gradient behind the limit is ``weights``, beside an integer that has none."""
    after = limit_gradient(tree, LIMIT)
    return jnp.sum(after["a"] * weights["a"]) + after["b"] * weights["b"] + 0 * jnp.sum(after["count"])


def limited_gradient(weights):
    tree = {"a": jnp.arange(3.0), "b": jnp.float32(2.0), "count": jnp.arange(2)}
    gradient = jax.grad(limited, allow_int=True)(tree, weights)
    return {"a": gradient["a"], "b": gradient["b"]}


def weights_of_length(length):
    return {"a": length * jnp.array([0.48, 0.0, -0.64]), "b": jnp.float32(0.6 * length)}


def test_limit_gradient_is_the_identity_forward():
    tree = {"a": jnp.arange(3.0), "b": jnp.float32(2.0), "count": jnp.arange(2)}
    jax.tree.map(np.testing.assert_array_equal, limit_gradient(tree, LIMIT), tree)


@pytest.mark.parametrize("length", [0.0, 1.0, 1.99, 2.01, 50.0, 1e12])
def test_limit_gradient_shortens_long_gradients_over_all_leaves_and_only_those(length):
    gradient = limited_gradient(weights_of_length(length))
    expected = weights_of_length(min(length, LIMIT))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=ROUNDING), gradient, expected)
    if length < LIMIT:
        jax.tree.map(np.testing.assert_array_equal, gradient, expected)


@pytest.mark.parametrize("length", [1e16, 1e20, 3e38])
def test_limit_gradient_keeps_the_direction_of_a_gradient_whose_square_is_no_float32(length):
    """The plain norm is infinite from 1.8e19 on, and the gradient would be divided by it: nothing would be left."""
    gradient = limited_gradient(weights_of_length(length))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=ROUNDING), gradient, weights_of_length(LIMIT))


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e14])
def test_gradients_of_ordinary_size_are_limited_as_by_the_plain_norm_to_the_last_bit(length):
    weights = weights_of_length(length)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(weights)))
    plain = jax.tree.map(lambda leaf: jnp.minimum(1.0, LIMIT / (norm + 1e-12)) * leaf, weights)
    jax.tree.map(np.testing.assert_array_equal, limited_gradient(weights), plain)


def test_limit_gradient_acts_on_each_flight_of_a_batch():
    lengths = jnp.array([0.5, 2.0, 30.0])
    gradient = jax.vmap(limited_gradient)(jax.vmap(weights_of_length)(lengths))
    together = np.sqrt(np.sum(np.square(gradient["a"]), -1) + np.square(gradient["b"]))
    np.testing.assert_allclose(together, [0.5, 2.0, 2.0], rtol=ROUNDING)


def test_limit_gradient_keeps_a_nan_where_it_can_be_seen():
    gradient = limited_gradient({"a": jnp.array([1.0, jnp.nan, 1.0]), "b": jnp.float32(1.0)})
    assert np.isnan(gradient["a"][1])


def test_tree_norm_is_the_norm_of_all_leaves_together():
    assert tree_norm({"a": jnp.array([3.0, 0.0]), "b": (jnp.float32(4.0),)}) == pytest.approx(5.0, rel=ROUNDING)
    assert tree_norm({}) == 0.0
    assert tree_norm([np.array([3.0, 4.0], np.float32)]) == pytest.approx(5.0, rel=ROUNDING)


@pytest.mark.parametrize("size", [1e-3, 1e14, 1e16, 5e37])
def test_tree_norm_is_finite_where_squares_are_not(size):
    values = size * np.array([3.0, -4.0, 0.5])
    norm = tree_norm({"a": jnp.asarray(values[:2], jnp.float32), "b": jnp.float32(values[2])})
    assert norm == pytest.approx(np.linalg.norm(values), rel=ROUNDING)


@pytest.mark.parametrize("size", [1.0, 1e14, 1e20, 3e38])
def test_a_tree_within_reach_has_a_finite_norm_the_same_direction_and_is_itself_if_it_had_one(size):
    tree = {"a": jnp.array([size, -0.5 * size], jnp.float32), "b": jnp.float32(0.0)}
    near = bound_magnitude(tree)
    assert np.isfinite(optax.global_norm(near))
    np.testing.assert_allclose(near["a"] / near["a"][0], [1.0, -0.5], rtol=ROUNDING)
    assert near["a"][0] == pytest.approx(min(size, 1e15), rel=ROUNDING)
    if size < 1e15:
        jax.tree.map(np.testing.assert_array_equal, near, tree)


@pytest.mark.parametrize(("bad", "finite"), [(1.0, True), (jnp.nan, False), (jnp.inf, False), (-jnp.inf, False)])
def test_one_non_finite_number_anywhere_is_found(bad, finite):
    tree = {"a": jnp.ones((2, 2)), "b": [jnp.array([0.0, bad])]}
    assert bool(tree_all_finite(tree)) is finite


def test_the_largest_entry_alone_gets_the_gradient_of_the_maximum_and_one_of_equals_too(vectors):
    value, gradient = jax.vmap(jax.value_and_grad(largest_entry))(jnp.asarray(vectors))
    np.testing.assert_array_equal(value, vectors.max(-1))
    np.testing.assert_array_equal(gradient, np.arange(3) == vectors.argmax(-1)[:, None])
    np.testing.assert_array_equal(jax.grad(largest_entry)(jnp.array([-1.0, 2.0, 2.0])), [0.0, 1.0, 0.0])
    assert np.isnan(largest_entry(jnp.array([1.0, jnp.nan])))


def test_a_saturated_vector_stays_below_its_limits_and_passes_nothing_along_an_axis_without_room(vectors):
    """The gradient of L tanh(w / L) is 1 - (command / L)^2; with L = 0 it is zero, where the formula has NaN."""
    limit = np.array([10.0, 2.0, 0.0])
    result = np.asarray(jax.vmap(lambda wanted: saturated(wanted, (10.0, 2.0, 0.0)))(jnp.asarray(vectors)))
    expected = limit[:2] * np.tanh(vectors[:, :2].astype(np.float64) / limit[:2])
    np.testing.assert_allclose(result[:, :2], expected, rtol=ROUNDING)
    np.testing.assert_array_equal(result[:, 2], 0.0)
    slopes = jax.vmap(jax.grad(lambda wanted: saturated(wanted, (10.0, 2.0, 0.0)).sum()))(jnp.asarray(vectors))
    np.testing.assert_allclose(slopes[:, :2], 1.0 - (expected / limit[:2]) ** 2, atol=2 * ROUNDING)
    np.testing.assert_array_equal(slopes[:, 2], 0.0)
