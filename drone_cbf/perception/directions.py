"""Division of the directions of space into cells and sectors."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

CELLS_PER_SIDE = 16
CELLS = CELLS_PER_SIDE**2  # Direction cells, each about 13 degrees wide
SECTORS = 20  # Faces of an icosahedron: every direction is within 37.4 degrees of one


def cell_of(directions: Float[Array, "n 3"]) -> Int[Array, "n"]:
    """Index of the cell of each direction (of any length), by the octahedral map (Cigolle et al. 2014).

    It unfolds the sphere onto a square without trigonometric functions; equal cells of the square differ in solid angle
    by a factor of at most 5.2. Written coordinate by coordinate, which takes a tenth of the time on CPU.
    """
    x, y, z = (directions[:, axis] for axis in range(3))
    size = jnp.maximum(jnp.abs(x) + jnp.abs(y) + jnp.abs(z), 1e-12)
    x, y = x / size, y / size
    folded_x = (1.0 - jnp.abs(y)) * jnp.where(x >= 0.0, 1.0, -1.0)
    folded_y = (1.0 - jnp.abs(x)) * jnp.where(y >= 0.0, 1.0, -1.0)
    row, column = (
        jnp.clip(((0.5 * side + 0.5) * CELLS_PER_SIDE).astype(jnp.int32), 0, CELLS_PER_SIDE - 1)
        for side in (jnp.where(z >= 0.0, x, folded_x), jnp.where(z >= 0.0, y, folded_y))
    )
    return row * CELLS_PER_SIDE + column


@functools.cache
def cell_directions() -> np.ndarray:
    """Unit vector to the middle of each cell, (CELLS, 3) float32."""
    centre = (np.arange(CELLS_PER_SIDE) + 0.5) / CELLS_PER_SIDE * 2.0 - 1.0
    x, y = (grid.ravel() for grid in np.meshgrid(centre, centre, indexing="ij"))
    z = 1.0 - np.abs(x) - np.abs(y)
    below = z < 0.0
    folded_x = (1.0 - np.abs(y)) * np.where(x >= 0.0, 1.0, -1.0)
    folded_y = (1.0 - np.abs(x)) * np.where(y >= 0.0, 1.0, -1.0)
    vectors = np.stack([np.where(below, folded_x, x), np.where(below, folded_y, y), z], -1)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@functools.cache
def cells_within(angle: float) -> Bool[np.ndarray, "c c"]:
    """Whether the middles of two cells are at most ``angle`` [rad] apart."""
    return cell_directions() @ cell_directions().T > np.cos(angle)


@functools.cache
def sector_axes() -> np.ndarray:
    """Unit normals of the faces of a regular icosahedron, (SECTORS, 3) float32."""
    golden = (1.0 + 5.0**0.5) / 2.0
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    short, long = 1.0 / golden, golden
    edges = [(0, a * short, b * long) for a in (-1, 1) for b in (-1, 1)]
    vectors = np.array([*corners, *edges, *[(y, z, x) for x, y, z in edges], *[(z, x, y) for x, y, z in edges]])
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
