"""Comparison of the neural with the analytic barrier on held-out states: flown ones near h = 0, and sampled strata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import concatenate_trees
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import Comparison, calibration_report, make_comparison, stratum_report
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.training.barrier.losses import velocity_scale

KEPT_NEAR_BOUNDARY = 16_384
"""Number of flown states that are compared, those with the smallest |h|."""
Comparer = Callable[[BarrierParams, Graph], Comparison]
"""(parameters, graphs with a leading axis) -> both barriers on them."""


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


@dataclass(frozen=True)
class BarrierValidation:
    """Both barriers on held-out states."""

    flown: Comparison
    strata: Mapping[str, Comparison]

    def report(self) -> dict[str, float]:
        """Metrics of the flown states."""
        return calibration_report(self.flown)

    def strata_reports(self) -> dict[str, dict[str, float]]:
        """Metrics of every stratum."""
        return {name: stratum_report(comparison) for name, comparison in self.strata.items()}

    def metrics(self, prefix: str) -> dict[str, float]:
        """All metrics: ``<prefix>/<name>`` and ``<prefix>/<stratum>/<name>``."""
        reports = {prefix: self.report()} | {f"{prefix}/{name}": each for name, each in self.strata_reports().items()}
        return {f"{group}/{name}": value for group, report in reports.items() for name, value in report.items()}


@dataclass(frozen=True)
class HeldOutStrata:
    """Sampled states of every stratum, concatenated."""

    graphs: Graph
    counts: Mapping[str, int]

    def validate(self, compare: Comparer, barrier: BarrierParams, flown: Graph) -> BarrierValidation:
        """Compare on ``flown`` and on the strata in one call, so that one compiled program serves both."""
        comparison = compare(barrier, concatenate_trees(flown, self.graphs))
        ends = np.cumsum((flown.mask.shape[0], *self.counts.values()))
        flown_part, *parts = (
            jax.tree.map(lambda x: x[start:end], comparison) for start, end in zip((0, *ends), ends, strict=False)
        )
        return BarrierValidation(flown=flown_part, strata=dict(zip(self.counts, parts, strict=True)))
