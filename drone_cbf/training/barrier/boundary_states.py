"""Comparison of the neural with the analytic barrier at flown states near h = 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import Comparison, make_comparison
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.training.barrier.sobolev import velocity_scale
from drone_cbf.training.barrier.validation import Comparer

KEPT_NEAR_BOUNDARY = 16_384
"""Number of flown states that are compared, those with the smallest |h|."""


def nearest_to_boundary(graphs: Graph, system: SystemConfig, count: int) -> Graph:
    """The ``count`` graphs (leading axis) with the smallest analytic |h|."""
    value = jax.lax.map(make_analytic_barrier(system), graphs, batch_size=4096)
    order = jnp.argsort(jnp.abs(value))[:count]
    return jax.tree.map(lambda x: x[order], graphs)


def make_comparer(system: SystemConfig) -> Comparer:
    """Compiled function that evaluates both barriers on graphs with a leading axis."""
    analytic, neural = make_analytic_barrier(system), make_neural_barrier(system)
    compare = make_comparison(velocity_scale(system))

    @jax.jit
    def comparer(params: BarrierParams, graphs: Graph) -> Comparison:
        return jax.lax.map(lambda graph: compare(analytic, neural(params), graph), graphs, batch_size=4096)

    return comparer
