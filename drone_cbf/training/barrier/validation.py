"""Validation of the neural barrier on held-out states: flown ones, and every stratum of sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from drone_cbf.arrays import concatenate_trees
from drone_cbf.barrier.calibration import Comparison, calibration_report, stratum_report
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.perception.graphs import Graph

Comparer = Callable[[BarrierParams, Graph], Comparison]
"""(parameters, graphs with a leading axis) -> both barriers on them."""
StrataReports = dict[str, dict[str, float]]
"""Stratum -> metric -> value."""


@dataclass(frozen=True)
class BarrierValidation:
    """Both barriers on held-out states."""

    flown: Comparison
    strata: Mapping[str, Comparison]

    def report(self) -> dict[str, float]:
        """Metrics of the flown states."""
        return calibration_report(self.flown)

    def strata_reports(self) -> StrataReports:
        """Metrics of every stratum."""
        return {name: stratum_report(comparison) for name, comparison in self.strata.items()}

    def metrics(self, prefix: str) -> dict[str, float]:
        """All metrics: ``<prefix>/<name>`` and ``<prefix>/<stratum>/<name>``."""
        named = {f"{prefix}/{name}": value for name, value in self.report().items()}
        for stratum, report in self.strata_reports().items():
            named |= {f"{prefix}/{stratum}/{name}": value for name, value in report.items()}
        return named


@dataclass(frozen=True)
class HeldOutStrata:
    """Sampled states of every stratum, concatenated."""

    graphs: Graph
    counts: Mapping[str, int]

    def validate(self, compare: Comparer, barrier: BarrierParams, flown: Graph) -> BarrierValidation:
        """Compare on ``flown`` and on the strata in one call, so that one compiled program serves both."""
        comparison = compare(barrier, concatenate_trees(flown, self.graphs))
        sizes = (flown.mask.shape[0], *self.counts.values())
        pieces = [
            jax.tree.map(lambda x: x[end - size : end], comparison)
            for size, end in zip(sizes, np.cumsum(sizes), strict=True)
        ]
        return BarrierValidation(flown=pieces[0], strata=dict(zip(self.counts, pieces[1:], strict=True)))
