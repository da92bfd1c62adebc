"""Measures a stage during training, reports, and rolls training back to the best state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.arrays import Scalar
from drone_cbf.devices import put_replicated
from drone_cbf.errors import TrainingError
from drone_cbf.recorder import Recorder
from drone_cbf.rollout import ControllerParams
from drone_cbf.training.curriculum.adaptation import Scales
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.monitor.measurements import StageMeasures, controller_of, prefixed
from drone_cbf.training.monitor.state import (
    BestState,
    MonitorState,
    after_failure,
    after_measurement,
    after_rollback,
    after_stage_start,
    candidate,
    scales_of,
    unmet_thresholds,
)
from drone_cbf.training.update.averaging import exported_networks
from drone_cbf.training.update.joint_update import SafetyState


class StageMonitor:
    """Applies the ``Monitor`` settings. Stateless: each method takes a ``MonitorState`` and returns the next one."""

    def __init__(self, config: Monitor, measures: StageMeasures, recorder: Recorder) -> None:
        self._config, self._measures, self._recorder = config, measures, recorder

    def scales(self, monitor: MonitorState) -> Scales:
        """Factors in force."""
        return scales_of(monitor, self._config)

    def is_due(self, done: int, total: int) -> bool:
        """Whether to measure after ``done`` of a stage's ``total`` updates; its end is measured by the gate."""
        return done % self._config.every == 0 and done < total

    def start_stage(
        self, state: SafetyState, monitor: MonitorState, index: int, stage: Stage, margin: Scalar
    ) -> MonitorState:
        """Measure the state that a stage starts from: later states have to beat it."""
        report = self._measures.report(self._controller(state, monitor, stage, margin), index, stage)
        shown = {"entry_success": report["success_rate"], "entry_violation": report["violation_p999"]}
        self._recorder.metrics(int(state.step), prefixed("monitor", shown))
        first = candidate(state, report, stage, monitor.backoffs)
        self._save_best(first, index, margin)
        return after_stage_start(monitor, first, index)

    def measure(
        self, state: SafetyState, monitor: MonitorState, index: int, stage: Stage, margin: Scalar
    ) -> tuple[SafetyState, MonitorState]:
        """Measure within a stage; roll back once patience is exceeded."""
        controller = self._controller(state, monitor, stage, margin)
        report = self._measures.report(controller, index, stage)
        robust = self._measures.robust_report(controller, index, stage)
        found = candidate(state, report, stage, monitor.backoffs)
        updated = after_measurement(monitor, found)
        values = prefixed("eval", report) | prefixed("robust", robust)
        self._recorder.metrics(int(state.step) - 1, values | {"monitor/failures": float(updated.failures)})
        if updated.best is found:
            self._save_best(found, index, margin)
        return self._check_patience(state, updated, stage, unmet_thresholds(report, stage))

    def count_gate_failure(
        self, state: SafetyState, monitor: MonitorState, stage: Stage, unmet: str
    ) -> tuple[SafetyState, MonitorState]:
        """The gate at the end of a stage has failed, which counts as a failed measurement."""
        updated = after_failure(monitor)
        self._recorder.metrics(int(state.step) - 1, {"monitor/failures": float(updated.failures)})
        return self._check_patience(state, updated, stage, unmet)

    def _check_patience(
        self, state: SafetyState, monitor: MonitorState, stage: Stage, unmet: str
    ) -> tuple[SafetyState, MonitorState]:
        if monitor.failures <= self._config.patience:
            return state, monitor
        reason = f"failed {monitor.failures} measurements in a row, the last with {unmet}"
        return self.roll_back(state, monitor, stage, reason)

    def roll_back(
        self, state: SafetyState, monitor: MonitorState, stage: Stage, reason: str
    ) -> tuple[SafetyState, MonitorState]:
        """The stage's best state at the current step, to be trained more cautiously.

        Raises:
            TrainingError: ``monitor.rollbacks`` roll-backs have been used up.
        """
        step, best = int(state.step), monitor.best
        if monitor.rollbacks >= self._config.rollbacks:
            raise TrainingError(
                f"stage {stage.name} at step {step}: {reason}, after {monitor.rollbacks} roll-backs; lower the "
                "learning rate, ask less of the stage (success_threshold, violation_threshold), or raise "
                "monitor.rollbacks"
            )
        monitor = after_rollback(monitor)
        scales = self.scales(monitor)
        self._recorder.metrics(step - 1, {"monitor/rollbacks": float(monitor.rollbacks)})
        self._recorder.event(
            step,
            f"stage {stage.name}: {reason}; rolled back to step {int(best.state.step)} (success {best.success:.3f}, "
            f"violation {best.violation:.3f}), blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}, "
            f"learning rates x {scales.learning_rate:.3g}",
        )
        return at_current_step(best.state, state), monitor

    def report_backoffs(self, monitor: MonitorState, step: int) -> None:
        """Record an event if training ends with back-offs in force."""
        scales = self.scales(monitor)
        if monitor.backoffs:
            factors = f"blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}"
            self._recorder.event(step, f"training ends backed off, and has not recovered: {factors}")

    def _controller(self, state: SafetyState, monitor: MonitorState, stage: Stage, margin: Scalar) -> ControllerParams:
        """Controller of ``state`` with the blend in force."""
        return controller_of(state, margin, self.scales(monitor).blend * stage.blend)

    def _save_best(self, best: BestState, index: int, margin: Scalar) -> None:
        tree = {**exported_networks(best.state), "margin": margin, "stage": jnp.int32(index)}
        self._recorder.checkpoint(int(best.state.step), tree, "best")


def adaptive_metrics(scales: Scales) -> dict[str, float]:
    """Metrics of the factors in force."""
    return {
        "adaptive/blend_scale": scales.blend,
        "adaptive/penalty_scale": scales.penalty,
        "adaptive/learning_rate_scale": scales.learning_rate,
    }


def at_current_step(earlier: SafetyState, state: SafetyState) -> SafetyState:
    """An earlier state with the step and the skipped updates of ``state``: no step number is used twice."""
    return earlier.replace(step=state.step, skipped=state.skipped)


def best_passing_state(monitor: MonitorState, state: SafetyState) -> SafetyState | None:
    """The stage's best state, at the step of ``state``, if it passed without back-offs."""
    best = monitor.best
    return at_current_step(best.state, state) if best.passed and not best.backoffs else None


def restored_monitor(monitor: MonitorState) -> MonitorState:
    """A monitor read from a checkpoint: the best state on the devices, the counts as Python numbers."""
    numbers = monitor.replace(best=monitor.best.replace(state=None))
    numbers = jax.tree.map(lambda leaf: np.asarray(leaf).item(), numbers)
    return numbers.replace(best=numbers.best.replace(state=put_replicated(monitor.best.state)))
