"""Work on batches: nested ``vmap`` gives one batch, and only what is needed is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.packing import as_one_batch, of_single, replaced_where


def recording(shapes):
    """Multiplies its problems by what they share, and notes the shape of each batch that it is given."""

    @as_one_batch
    def scaled(shared, problems):
        shapes.append(problems["x"].shape)
        return shared * problems["x"] + problems["y"][:, None]

    return scaled


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Y = np.array([1.0, 2.0], np.float32)


def test_batches_of_batches_are_one_batch():
    shapes: list[tuple[int, ...]] = []
    scaled = recording(shapes)

    def of_row(x, y):
        return of_single(scaled, jnp.float32(3.0), {"x": x, "y": y})

    found = jax.jit(jax.vmap(jax.vmap(of_row, in_axes=(0, None))))(X, Y)
    np.testing.assert_array_equal(found, 3.0 * X + Y[:, None, None])
    assert shapes[-1] == (6, 4)


def test_what_problems_share_may_itself_come_in_batches():
    scaled = recording([])
    factors = np.array([2.0, -1.0], np.float32)

    def of_row(factor, x):
        return of_single(scaled, factor, {"x": x, "y": jnp.float32(0.0)})

    found = jax.vmap(jax.vmap(of_row, in_axes=(None, 0)))(factors, X)
    np.testing.assert_array_equal(found, factors[:, None, None] * X)


def test_problems_may_be_empty_arrays():
    first = as_one_batch(lambda shared, problems: problems)
    found = jax.vmap(lambda x: of_single(first, None, x))(jnp.zeros((3, 4, 0)))
    assert found.shape == (3, 4, 0)


@pytest.mark.parametrize("needed", [[], [3], [0, 9], [1, 2, 4, 5, 7], list(range(10))])
def test_answers_are_replaced_wherever_they_are_needed(needed):
    where, start = np.isin(np.arange(10), needed), -np.ones(10, np.float32)
    problems = np.arange(10, dtype=np.float32) + 1.0
    fill = jax.jit(lambda where, x, start: replaced_where(where, lambda some: some * some, x, start, 4))
    found = np.asarray(fill(where, problems, start))
    np.testing.assert_array_equal(found[where], problems[where] ** 2)
    assert np.all((found == -1.0) | (found == problems**2))
    blocks = -(-len(needed) // 4)
    assert np.sum(found != -1.0) <= 4 * blocks


def test_nothing_is_computed_where_no_answer_is_needed():
    def refused(x):
        jax.debug.callback(lambda: pytest.fail("no problem needs an answer"))
        return x

    start = jnp.zeros(5)
    found = jax.block_until_ready(replaced_where(jnp.zeros(5, bool), refused, jnp.ones(5), start, 2))
    np.testing.assert_array_equal(found, start)
