"""How good the neural barrier is on states that it was not taught: flown ones, and every stratum of sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.barrier.calibration import Comparison, calibration_report, stratum_report
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.perception.graphs import Graph

Comparer = Callable[[BarrierParams, Graph], Comparison]
"""(parameters, graphs with a leading axis) -> neural beside analytic barrier."""
StrataReports = dict[str, dict[str, float]]
"""Stratum -> figure -> value."""


@dataclass(frozen=True)
class BarrierValidation:
    """What a barrier shows on held-out states."""

    flown: Comparison
    strata: Mapping[str, Comparison]

    def report(self) -> dict[str, float]:
        """Figures of the flown states."""
        return calibration_report(self.flown)

    def strata_reports(self) -> StrataReports:
        """Figures of every stratum."""
        return {name: stratum_report(comparison) for name, comparison in self.strata.items()}

    def metrics(self, prefix: str) -> dict[str, float]:
        """All of it: ``<prefix>/<name>`` and ``<prefix>/<stratum>/<name>``."""
        named = {f"{prefix}/{name}": value for name, value in self.report().items()}
        for stratum, report in self.strata_reports().items():
            named |= {f"{prefix}/{stratum}/{name}": value for name, value in report.items()}
        return named


@dataclass(frozen=True)
class HeldOutStrata:
    """Sampled states of every stratum, one after the other."""

    graphs: Graph
    counts: Mapping[str, int]

    def judge(self, compare: Comparer, barrier: BarrierParams, flown: Graph) -> BarrierValidation:
        """Compares on ``flown`` and on the strata in one call: one compiled program serves both."""
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), flown, self.graphs)
        comparison = compare(barrier, both)
        first = flown.mask.shape[0]
        ends = np.cumsum([first, *self.counts.values()])
        pieces = [
            _rows(comparison, end - count, end) for end, count in zip(ends[1:], self.counts.values(), strict=True)
        ]
        return BarrierValidation(flown=_rows(comparison, 0, first), strata=dict(zip(self.counts, pieces, strict=True)))


def _rows(comparison: Comparison, start: int, end: int) -> Comparison:
    return jax.tree.map(lambda x: x[start:end], comparison)
