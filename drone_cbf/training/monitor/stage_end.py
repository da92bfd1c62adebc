"""The end of a stage: calibrate the barrier, then measure policy and barrier as they would be exported.

Both networks have changed since the last calibration. Measured with the old margin, a stage could pass with a policy
that does not fly behind the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison, calibration_report, usable_margin
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.metrics import flight_report
from drone_cbf.training.barrier.boundary_states import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.data.flights import GraphCollector, MeasuredFlights, make_graph_collector, report_key
from drone_cbf.training.monitor.measurements import StageMeasures, controller_of
from drone_cbf.training.monitor.state import unmet_thresholds
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.joint_update import SafetyState

CALIBRATION = 1
"""``report_key`` purpose of the calibration flights."""
Calibrator = Callable[[SafetyState, Stage], Comparison]
"""(state, stage) -> both barriers on fresh flights of that state under the stage's conditions."""


@dataclass(frozen=True)
class StageEnd:
    """A calibrated and measured state at the end of a stage."""

    state: SafetyState
    comparison: Comparison
    """Both barriers on held-out closed-loop states."""
    measured: MeasuredFlights
    """Flights under the stage's own conditions, with the new margin."""
    report: dict[str, float]
    """Metrics of these flights and of the calibration."""
    unmet: str
    """The thresholds that are not met, in words; empty if the stage passes."""

    @property
    def margin(self) -> Scalar:
        """Calibration margin of the barrier on flights of the policy [m]."""
        return jnp.float32(self.report["margin"])


def make_calibrator(
    system: SystemConfig, settings: SafetySettings, measures: StageMeasures, root: jax.Array
) -> Calibrator:
    """Function that calibrates a state; all calibrations of a run fly the same held-out scenes."""
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
        TrainingError: no flight came near an obstacle, so the barrier cannot be calibrated.
    """
    comparison = calibrate(state, stage)
    calibration = calibration_report(comparison)
    margin = jnp.float32(usable_margin(calibration))
    measured = measures.fly(controller_of(state, margin, stage.blend), index, stage, flights)
    report = flight_report(measured.flown.metrics)
    return StageEnd(state, comparison, measured, report | calibration, unmet_thresholds(report, stage))
