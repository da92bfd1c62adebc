"""The nearest others by cells: the same as from all pairs, in every arrangement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.physics.neighbours import by_cells, nearest_neighbours, of_all_pairs

N, RADIUS, COUNT = 125, 0.5, 8


def grid():
    """A lattice whose spacing is the radius: all are on borders of cells, and six are as far as the radius reaches."""
    return 0.5 * np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3)


def arrangements():
    rng = np.random.default_rng(0)
    return {
        "evenly in a cube": rng.uniform(0.0, 4.0, (N, 3)),
        "in a plane": rng.uniform(-3.0, 3.0, (N, 3)) * [1.0, 1.0, 0.0],
        "on a line": rng.uniform(-5.0, 5.0, (N, 3)) * [0.0, 1.0, 0.0],
        "crowded": rng.normal(0.0, 0.1, (N, 3)),
        "all in one place": np.zeros((N, 3)),
        "ties on borders": grid(),
        "ties within reach": 0.6 * grid(),
        "one far away": np.concatenate([rng.uniform(0.0, 1.0, (N - 1, 3)), [[1e4, -1e4, 0.0]]]),
        "two crowds": rng.normal(0.0, 0.2, (N, 3)) + 50.0 * (np.arange(N) % 2)[:, None],
    }


def expected(position, radius, count):
    """Distances to the nearest others within the radius, ascending, then infinite; by sorting all, in float64."""
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = np.sort(distance, axis=-1)[:, :count]
    return np.where(nearest < radius, nearest, np.inf)


@pytest.fixture(scope="module")
def programs():
    return {each.__name__: jax.jit(lambda p, each=each: each(p, RADIUS, COUNT)) for each in (by_cells, of_all_pairs)}


@pytest.mark.parametrize("arrangement", arrangements())
@pytest.mark.parametrize("name", ["by_cells", "of_all_pairs"])
def test_the_nearest_others_are_found_in_order(name, arrangement, programs):
    position = arrangements()[arrangement].astype(np.float32)
    index, within = (np.asarray(leaf) for leaf in programs[name](position))
    exact = position.astype(np.float64)
    distance = np.where(within, np.linalg.norm(exact[index] - exact[:, None], axis=-1), np.inf)
    wanted = expected(exact, RADIUS, COUNT)
    borderline = np.abs(wanted - RADIUS) < 1e-6
    np.testing.assert_allclose(distance[~borderline], wanted[~borderline], atol=1e-6)
    assert not np.any(index == np.arange(N)[:, None])
    for own, seen in zip(index, within, strict=True):
        assert len(set(own[seen])) == seen.sum(), "one other in two slots"


def test_swarms_in_a_batch_are_kept_apart_and_of_any_size(programs):
    position = np.stack(list(arrangements().values())).astype(np.float32)
    batch = jax.jit(jax.vmap(lambda p: by_cells(p, RADIUS, COUNT)))(position)
    for row in range(len(position)):
        alone = programs["by_cells"](position[row])
        np.testing.assert_array_equal(batch[1][row], alone[1])
    for n in (2, 65):
        index, within = nearest_neighbours(jnp.zeros((n, 3)), RADIUS, 1)
        assert index.shape == within.shape == (n, 1) and np.all(within)


def test_no_gradient_passes_and_none_is_made_infinite():
    def loss(position):
        index, within = nearest_neighbours(position, RADIUS, 3)
        return jnp.sum(jnp.where(within[..., None], position[index], 0.0))

    gradient = jax.grad(loss)(jnp.asarray(arrangements()["evenly in a cube"], jnp.float32))
    assert np.all(np.isfinite(gradient))
