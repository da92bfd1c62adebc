"""Cells and sectors of directions: against an octahedral map in float64, and how far a direction is from its own."""

import jax.numpy as jnp
import numpy as np

from drone_cbf.perception.directions import CELLS, CELLS_PER_SIDE, SECTORS, cell_directions, cell_of, sector_axes

RAYS = np.random.default_rng(0).normal(size=(40_000, 3))
RAYS /= np.linalg.norm(RAYS, axis=-1, keepdims=True)
FACE = np.arccos(np.sqrt((5.0 + 2.0 * np.sqrt(5.0)) / 15.0))
"""Angle between the middle of a face of an icosahedron and its corners [rad], 37.38 degrees."""


def cells(directions) -> np.ndarray:
    return np.asarray(cell_of(jnp.asarray(directions, jnp.float32)))


def unfolded(directions: np.ndarray) -> np.ndarray:
    """Where each direction lies on the square [0, 1]^2: projected on the octahedron, its lower half folded outward."""
    flat = directions / np.abs(directions).sum(-1, keepdims=True)
    outward = (1.0 - np.abs(flat[:, 1::-1])) * np.where(flat[:, :2] >= 0.0, 1.0, -1.0)
    return 0.5 + 0.5 * np.where(flat[:, 2:] >= 0.0, flat[:, :2], outward)


def test_a_direction_is_in_the_cell_of_the_octahedral_map_that_it_falls_into():
    place = CELLS_PER_SIDE * unfolded(RAYS)
    inside = np.abs(place - np.round(place)).min(-1) > 1e-4  # float32 decides on the edges
    row, column = np.floor(place[inside]).astype(int).T
    assert inside.mean() > 0.99
    np.testing.assert_array_equal(cells(RAYS)[inside], row * CELLS_PER_SIDE + column)


def test_the_middle_of_a_cell_is_in_it_at_any_length():
    middle = cell_directions()
    np.testing.assert_allclose(np.linalg.norm(middle, axis=-1), 1.0, rtol=1e-6)
    for length in (1e-3, 1.0, 50.0):
        np.testing.assert_array_equal(cells(length * middle), np.arange(CELLS))


def test_no_direction_is_far_from_the_middle_of_its_cell_and_no_cell_is_much_smaller_than_another():
    own = cells(RAYS)
    angle = np.rad2deg(np.arccos(np.clip((RAYS * cell_directions()[own]).sum(-1), -1.0, 1.0)))
    # Half the diagonal of the longest cells, which lie on an edge of the octahedron.
    assert 200.0 < angle.max() * CELLS_PER_SIDE < 240.0
    share = np.bincount(own, minlength=CELLS) / len(RAYS)
    # 156 rays a cell: five standard deviations beyond the ratio of 2.6 of the solid angles.
    assert share.min() > 0.0 and share.max() / share.min() < 2.6 * 1.9


def test_zero_has_a_cell():
    assert 0 <= cells(np.zeros((1, 3)))[0] < CELLS


def test_every_direction_is_near_the_axis_of_a_sector_and_the_sectors_are_alike():
    axes = np.float64(sector_axes())
    assert axes.shape == (SECTORS, 3)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=-1), 1.0, rtol=1e-6)
    cosine = RAYS @ axes.T
    assert np.arccos(cosine.max(-1)).max() < FACE
    assert np.arccos(cosine.max(-1)).max() > FACE - np.deg2rad(2.0)
    neighbours = np.sort(axes @ axes.T, axis=-1)[:, -4:-1]
    np.testing.assert_allclose(neighbours, np.sqrt(5.0) / 3.0, atol=1e-6, err_msg="three faces share an edge with each")
    share = np.bincount(cosine.argmax(-1), minlength=SECTORS) / len(RAYS)
    assert np.abs(share * SECTORS - 1.0).max() < 5.0 * np.sqrt(SECTORS / len(RAYS))
