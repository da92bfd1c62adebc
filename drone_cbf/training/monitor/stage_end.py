"""The end of a stage: the barrier is calibrated anew, and the pair is measured as it would be handed on.

Both networks have changed since the last calibration. A stage that was judged with an old margin could pass, and its
policy stand still behind the margin that is stored with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison, calibration_report, usable_margin
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.summaries import flight_report
from drone_cbf.training.barrier.boundary_states import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.data.flights import GraphCollector, Measured, make_graph_collector, report_key
from drone_cbf.training.monitor.measurements import StageMeasures, controller_of
from drone_cbf.training.monitor.state import missed_thresholds
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.joint_update import SafetyState

CALIBRATION = 1
"""Purpose of the key of the flights that calibrate."""
Calibrator = Callable[[SafetyState, Stage], Comparison]
"""(state, stage) -> neural beside analytic barrier on fresh flights of that pair under the stage's conditions."""


@dataclass(frozen=True)
class StageEnd:
    """A state at the end of a stage, as it would be handed on."""

    state: SafetyState
    comparison: Comparison
    """Held-out closed-loop states, for the calibration figure."""
    measured: Measured
    """Flights under the stage's own conditions, with that margin."""
    report: dict[str, float]
    """Of these flights and of the calibration."""
    missed: str
    """Which of the stage's thresholds are missed, in words; empty where none is."""

    @property
    def margin(self) -> Scalar:
        """Calibration margin of its barrier on its policy's flights [m]."""
        return jnp.float32(self.report["margin"])


def make_calibrator(
    system: SystemConfig, settings: SafetySettings, measures: StageMeasures, root: jax.Array
) -> Calibrator:
    """Calibrations of a run: all fly the same scenes, which no update and no other measurement does."""
    compare = make_comparer(system)
    collectors: dict[int, GraphCollector] = {}

    def calibrate(state: SafetyState, stage: Stage) -> Comparison:
        if stage.horizon not in collectors:
            fly = measures.flyer(stage.horizon)
            collectors[stage.horizon] = make_graph_collector(system, fly, settings.scenes, settings.report_flights)
        uncalibrated = controller_of(state, jnp.float32(0.0), stage.blend)
        flown = collectors[stage.horizon](uncalibrated, stage.noise, stage.augment, report_key(root, CALIBRATION))
        return compare(uncalibrated.barrier, nearest_to_boundary(flown, system, KEPT_NEAR_BOUNDARY))

    return calibrate


def evaluate_stage_end(
    state: SafetyState, index: int, stage: Stage, calibrate: Calibrator, measures: StageMeasures, flights: int
) -> StageEnd:
    """Calibrate ``state`` and measure it under the conditions of ``stage``, the curriculum's ``index``-th.

    Raises:
        TrainingError: no flight came near an obstacle, so that the barrier cannot be calibrated.
    """
    comparison = calibrate(state, stage)
    calibration = calibration_report(comparison)
    margin = jnp.float32(usable_margin(calibration))
    measured = measures.fly(controller_of(state, margin, stage.blend), index, stage, flights)
    flown = flight_report(measured.flown.metrics)
    missed = missed_thresholds(flown, stage)
    return StageEnd(state, comparison, measured, flown | calibration, missed)
