"""Measurements of joint training under the conditions of a stage: during it, and at its end.

At the end the barrier is calibrated first, then both networks are measured as they would be exported: measured with the
margin of the last calibration, a stage could pass with a policy that does not fly behind the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison, calibration_report, usable_margin
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.flights import Flyer
from drone_cbf.objectives.metrics import flight_report
from drone_cbf.training.barrier.validation import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.data.flights import MeasuredFlights, make_flight_measure, make_lesson_collector, report_key
from drone_cbf.training.population import Programs
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.averaging import networks_of
from drone_cbf.training.update.joint_update import SafetyState

CALIBRATION = 1
"""``report_key`` purpose of the calibration flights."""
FIRST_STAGE = 10
"""``report_key`` purpose of the first stage. All measurements of a stage fly the same scenes, so that they compare."""


def controller_of(state: SafetyState, margin: Scalar, blend: float) -> ControllerParams:
    """Controller parameters that represent ``state`` in measurements."""
    policy, barrier = networks_of(state)
    return ControllerParams(policy=policy, barrier=barrier, margin=margin, blend=jnp.float32(blend))


class StageMeasures:
    """Flies under a stage's conditions; caches one compiled program per horizon and number of flights."""

    def __init__(
        self,
        system: SystemConfig,
        settings: SafetySettings,
        flyer: Callable[[int], Flyer],
        root: jax.Array,
        programs: Programs,
    ) -> None:
        self._curriculum, self._monitor, self._root = settings.curriculum, settings.curriculum.monitor, root
        self.flyer = flyer  # by horizon
        self._measure = programs.shared(
            "measure",
            lambda jit: cache(
                lambda horizon, flights, random_drones: make_flight_measure(
                    system, flyer(horizon), settings.scenes, flights, random_drones=random_drones
                )
            ),
        )

    def fly(
        self, controller: ControllerParams, index: int, stage: Stage, flights: int, *, random_drones: bool = False
    ) -> MeasuredFlights:
        """Flights under the noise, displacement and density of ``stage``, the curriculum's ``index``-th."""
        measure = self._measure(stage.horizon, flights, random_drones)
        conditions = stage.noise, stage.augment, report_key(self._root, FIRST_STAGE + index)
        return measure(controller, *conditions, self._curriculum.density_in(stage))

    def report(self, controller: ControllerParams, index: int, stage: Stage) -> dict[str, float]:
        """Metrics of ``monitor.flights`` flights."""
        return flight_report(self.fly(controller, index, stage, self._monitor.flights).flown.metrics)

    def robust_report(self, controller: ControllerParams, index: int, stage: Stage) -> dict[str, float]:
        """Metrics of ``monitor.robust_flights`` flights with randomised drones; empty if that is 0."""
        flights = self._monitor.robust_flights
        if not flights:
            return {}
        return flight_report(self.fly(controller, index, stage, flights, random_drones=True).flown.metrics)


def prefixed(prefix: str, report: dict[str, float]) -> dict[str, float]:
    """Metric names of a report: ``eval/success_rate`` and so on."""
    return {f"{prefix}/{name}": value for name, value in report.items()}


def unmet_thresholds(report: Mapping[str, float], stage: Stage) -> str:
    """The stage's thresholds that ``report`` does not meet, in words; empty if it passes. NaN does not pass."""
    unmet = []
    if not report["success_rate"] >= stage.success_threshold:
        unmet.append(f"success {report['success_rate']:.3f} below {stage.success_threshold:g}")
    if not report["violation_p999"] <= stage.violation_threshold:
        unmet.append(f"violation {report['violation_p999']:.3f} above {stage.violation_threshold:g}")
    return ", ".join(unmet)


@dataclass(frozen=True)
class StageEnd:
    """A calibrated and measured state at the end of a stage."""

    state: SafetyState
    comparison: Comparison
    """Both barriers on held-out closed-loop states."""
    measured: MeasuredFlights
    """Flights under the stage's own conditions, with the new margin."""
    report: dict[str, float]
    """Metrics of these flights and of the calibration, with the new ``margin`` [m]."""
    unmet: str
    """The thresholds that are not met, in words; empty if the stage passes."""

    @property
    def margin(self) -> Scalar:
        """Calibration margin of the barrier on flights of the policy [m]."""
        return jnp.float32(self.report["margin"])


def make_calibrator(
    system: SystemConfig, settings: SafetySettings, measures: StageMeasures, root: jax.Array, programs: Programs
) -> Callable[[SafetyState, Stage], Comparison]:
    """Function (state, stage) -> both barriers on flights of that state; all of a run fly the same held-out scenes."""
    compare = programs.shared("compare", lambda jit: make_comparer(system))
    collector = programs.shared(
        "collect",
        lambda jit: cache(
            lambda horizon: make_lesson_collector(
                system, measures.flyer(horizon), settings.scenes, settings.report_flights
            )
        ),
    )

    def calibrate(state: SafetyState, stage: Stage) -> Comparison:
        uncalibrated = controller_of(state, jnp.float32(0.0), stage.blend)
        collect = collector(stage.horizon)
        conditions = stage.noise, stage.augment, report_key(root, CALIBRATION)
        flown = collect(uncalibrated, *conditions, settings.curriculum.density_in(stage))
        return compare(uncalibrated.barrier, nearest_to_boundary(flown, KEPT_NEAR_BOUNDARY))

    return calibrate


def make_end_measurement(
    system: SystemConfig, settings: SafetySettings, measures: StageMeasures, root: jax.Array, programs: Programs
) -> Callable[[SafetyState, int, Stage], StageEnd]:
    """Function that calibrates a state and measures it under the conditions of a stage, the curriculum's ``index``-th.

    Raises (the function):
        TrainingError: no flight came near an obstacle, so the barrier cannot be calibrated.
    """
    calibrate = make_calibrator(system, settings, measures, root, programs)

    def measure_end(state: SafetyState, index: int, stage: Stage) -> StageEnd:
        comparison = calibrate(state, stage)
        calibration = calibration_report(comparison, system.barrier.confidence)
        margin = jnp.float32(usable_margin(calibration))
        measured = measures.fly(controller_of(state, margin, stage.blend), index, stage, settings.report_flights)
        report = flight_report(measured.flown.metrics)
        return StageEnd(state, comparison, measured, report | calibration, unmet_thresholds(report, stage))

    return measure_end
