"""The rows of a drone in a swarm: one for all surfaces together or one for each, and one for each other drone in range.

A pair's barrier is that of a single moving node. Both drones see the same barrier and the same demand on its rate; each
takes half of it, without a word between them: if both meet their halves, the pair meets the whole.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from drone_cbf.arrays import concatenate_trees
from drone_cbf.barrier.analytic import KINDS, Barrier
from drone_cbf.barrier.rows import BarrierReading, make_row_reader, make_tightening, slopes
from drone_cbf.config import BarrierConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.others import pair_graphs, surface_graphs, surfaces_alone

SHARE = 0.5  # Part of a pair's demand that each of the two takes


def make_pair_reader(config: BarrierConfig, fit_error: float = 0.0) -> Callable[[Barrier, Graph], BarrierReading]:
    """Function (barrier, graph of one pair) -> the row of one of the two.

    dh/dt = dh/dr . r' + dh/dv . (u + drag) - dh/dv . (u_other + drag_other) >= -alpha h is met if each of both has
    dh/dv . (u + drag) >= -(alpha h + dh/dr . r') / 2, with the derivatives on its own side.
    """
    node_motion, tightening = KINDS[config.kind].node_motion, make_tightening(config, fit_error)

    def read(barrier: Barrier, graph: Graph) -> BarrierReading:
        at = slopes(barrier, graph, node_motion)
        demand = -config.class_k_gain * at.value - at.drift + tightening(at, graph)
        offset = SHARE * demand - jnp.dot(at.by_velocity, graph.drag)
        return BarrierReading(value=at.value, normal=at.by_velocity, offset=offset)

    return read


def make_rows_reader(
    config: BarrierConfig, fit_error: float = 0.0, separate: bool = False
) -> Callable[[Barrier, Graph], tuple[BarrierReading, Bool[Array, "r"]]]:
    """Function (barrier, graph) -> (rows of all surfaces together and of each slot for another drone, leading axis r;
    which of them count). ``separate``: a row for each surface; that of an empty slot is met by every command."""
    of_surfaces, of_pair = make_row_reader(config, fit_error), make_pair_reader(config, fit_error)

    def read(barrier: Barrier, graph: Graph) -> tuple[BarrierReading, Bool[Array, "r"]]:
        alone = surfaces_alone(graph)
        if separate:
            first = jax.vmap(lambda surface: of_surfaces(barrier, surface))(surface_graphs(alone))
        else:
            first = jax.tree.map(lambda leaf: leaf[None], of_surfaces(barrier, alone))
        every = jnp.ones(first.value.shape[0], bool)
        if not graph.drones:
            return first, every
        pairs = pair_graphs(graph)
        found = jax.vmap(lambda pair: of_pair(barrier, pair))(pairs)
        return concatenate_trees(first, found), jnp.concatenate([every, pairs.mask[:, 0]])

    return read
