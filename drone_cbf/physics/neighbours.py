"""The nearest others of each drone of a swarm, in all pairs or by cells: then the cost of a drone does not grow with n.

Cells are cubes at least as wide as the radius, laid out so that those above each other follow each other: what is near
a drone lies in 27 of them, nine runs of three. Drones are sorted by cell, so a run is a slice of the sorted ones. It is
gone through a few at a time until the longest run ends: crowded cells cost time, nothing is lost.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

ALL_PAIRS_UP_TO = 64
"""Drones up to which all pairs are faster (``benchmarks/neighbours.py``)."""
CELLS_PER_DRONE = 8  # In the table of cells; more of them are smaller and hold fewer drones that are out of reach
SHRINKING = 0.5**0.5  # From one side of a cell that is tried to the next smaller one
SIDES = 24  # How many are tried; the last is 2900 times smaller than the first
ROUNDING = 1.0001  # Cells are wider than the radius by this factor, more than coordinates in cells are rounded by
AT_ONCE = 4  # Drones of a run that are looked at in one go

Nearest = tuple[Int[Array, "n k"], Bool[Array, "n k"]]


def nearest_neighbours(position: Float[Array, "n 3"], radius: float, count: int) -> Nearest:
    """The ``count`` others nearest to each drone, nearest first, and whether they are within ``radius`` [m].

    ``position`` [m]; ``count`` is less than n. Slots without a neighbour hold some other drone. Of others equally far
    either may come first. Not differentiable.
    """
    in_pairs = position.shape[0] <= ALL_PAIRS_UP_TO
    return (of_all_pairs if in_pairs else by_cells)(jax.lax.stop_gradient(position), radius, count)


def of_all_pairs(position: Float[Array, "n 3"], radius: float, count: int) -> Nearest:
    """:func:`nearest_neighbours` by all n^2 distances."""
    apart = position[:, None] - position[None]
    square = jnp.where(jnp.eye(position.shape[0], dtype=bool), jnp.inf, jnp.sum(apart * apart, -1))
    nearest, index = jax.lax.top_k(-square, count)
    return index, -nearest < radius**2


@struct.dataclass
class _Cells:
    """Drones sorted by cell."""

    order: Int[Array, "n"]  # Of the drones
    first: Int[Array, "cells"]  # Place of the first drone of each cell in ``order``; beyond the last cell n
    own: Int[Array, "n"]  # Cell of each drone
    stride: Int[Array, "2"]  # From a cell to the next one along x, and along y; along z it is 1


def by_cells(position: Float[Array, "n 3"], radius: float, count: int) -> Nearest:
    """:func:`nearest_neighbours` by cells."""
    n = position.shape[0]
    cells = _sorted_into_cells(position, radius)
    steps = jnp.arange(-1, 2)
    across = (steps[:, None] * cells.stride[0] + steps * cells.stride[1]).reshape(-1)
    run = cells.own[:, None] + across  # The middle cell of each run (n, 9)
    begin, end = cells.first[run - 1], cells.first[run + 2]
    drone = jnp.arange(n, dtype=jnp.int32)

    def look(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        offset, nearest, index = state
        place = (begin + offset)[..., None] + jnp.arange(AT_ONCE)
        there = place < end[..., None]
        other = cells.order[jnp.where(there, place, 0)].reshape(n, -1)
        apart = position[other] - position[:, None]
        square = jnp.sum(apart * apart, -1)
        counts = there.reshape(n, -1) & (other != drone[:, None]) & (square < radius**2)
        best, chosen = jax.lax.top_k(jnp.concatenate([nearest, jnp.where(counts, -square, -jnp.inf)], -1), count)
        return offset + AT_ONCE, best, jnp.take_along_axis(jnp.concatenate([index, other], -1), chosen, -1)

    none = jnp.full((n, count), -jnp.inf, position.dtype)
    someone = jnp.broadcast_to(((drone + 1) % n)[:, None], (n, count))
    longest = jnp.max(end - begin)
    first = (jnp.zeros((), jnp.int32), none, someone)
    _, nearest, index = jax.lax.while_loop(lambda state: state[0] < longest, look, first)
    found = nearest > -jnp.inf
    return jnp.where(found, index, someone), found


def _sorted_into_cells(position: Float[Array, "n 3"], radius: float) -> _Cells:
    """In the smallest cells, of those tried, of which there are at most :data:`CELLS_PER_DRONE` per drone.

    A layer of empty cells surrounds the others, so that every drone has its nine runs.
    """
    n = position.shape[0]
    room = CELLS_PER_DRONE * n + 64  # 4^3 hold all drones in one cell, with its surroundings
    low = jnp.min(position, axis=0)
    extent = jnp.max(position, axis=0) - low
    smallest = jnp.float32(radius * ROUNDING)
    sides = jnp.maximum(jnp.maximum(jnp.max(extent), smallest) * SHRINKING ** jnp.arange(SIDES), smallest)
    across = jnp.floor(extent / sides[:, None]) + 3.0
    fits = jnp.prod(across, axis=-1) <= room
    chosen = jnp.max(jnp.where(fits, jnp.arange(SIDES), 0))
    shape = across[chosen].astype(jnp.int32)
    cell = 1 + jnp.clip(jnp.floor((position - low) / sides[chosen]).astype(jnp.int32), 0, shape - 3)
    stride = jnp.stack([shape[1] * shape[2], shape[2]])
    own = cell[:, 0] * stride[0] + cell[:, 1] * stride[1] + cell[:, 2]
    order = jnp.argsort(own).astype(jnp.int32)
    counted = jnp.zeros(room + 3, jnp.int32).at[own + 1].add(1)
    return _Cells(order=order, first=jnp.cumsum(counted), own=own, stride=stride)
