"""Measures a stage during training, reports, and rolls training back to the best state.

``backoffs`` rises with every roll-back and falls with every passed measurement; it shifts the blend towards the
analytic barrier and raises the penalties until both are back at the stage's values. ``rollbacks`` only rises and lowers
the learning rates: a rate that has diverged once would diverge again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.controller import ControllerParams
from drone_cbf.devices import put_replicated
from drone_cbf.errors import TrainingError
from drone_cbf.recorder import Recorder
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.monitor.measurements import StageMeasures, controller_of, prefixed, unmet_thresholds
from drone_cbf.training.update.averaging import exported_networks
from drone_cbf.training.update.joint_update import SafetyState, Scales


@struct.dataclass
class BestState:
    """The best state of a stage so far, with its measurement."""

    state: SafetyState
    passed: int
    """1 if it met the stage's thresholds."""
    backoffs: int
    """Back-offs in force during the measurement."""
    success: float
    violation: float
    """99.9 % quantile [m/s]; infinite in place of NaN."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Larger is better: passed, fewer back-offs, higher success, smaller violation."""
        return (self.passed, -self.backoffs, self.success, -self.violation)


@struct.dataclass
class MonitorState:
    """The monitor's memory: the best state of the stage (index; -1 before the first), and the numbers of consecutive
    failed measurements, of back-offs in force (blend and penalties), and of roll-backs in the run so far."""

    best: BestState
    stage: int = -1
    failures: int = 0
    backoffs: int = 0
    rollbacks: int = 0

    def best_at(self, state: SafetyState) -> SafetyState:
        """The best state with the step and the skipped updates of ``state``: no step number is used twice."""
        return self.best.state.replace(step=state.step, skipped=state.skipped)

    def best_passing(self, state: SafetyState) -> SafetyState | None:
        """The best state, at the step of ``state``, if it passed without back-offs."""
        return self.best_at(state) if self.best.passed and not self.best.backoffs else None

    def restored(self) -> MonitorState:
        """A monitor read from a checkpoint: the best state on the devices, the counts as Python numbers."""
        numbers = self.replace(best=self.best.replace(state=None))
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf).item(), numbers)
        return numbers.replace(best=numbers.best.replace(state=put_replicated(self.best.state)))


def initial_monitor(state: SafetyState) -> MonitorState:
    """The monitor before the first stage."""
    return MonitorState(best=BestState(state=state, passed=0, backoffs=0, success=0.0, violation=math.inf))


def scales_of(monitor: MonitorState, config: Monitor) -> Scales:
    """Factors in force: powers of ``blend_backoff``, ``penalty_boost`` (limited) and ``rate_backoff``."""
    return Scales(
        blend=config.blend_backoff**monitor.backoffs,
        penalty=min(config.penalty_boost**monitor.backoffs, config.penalty_limit),
        learning_rate=config.rate_backoff**monitor.rollbacks,
    )


def candidate(state: SafetyState, report: Mapping[str, float], stage: Stage, backoffs: int) -> BestState:
    """A measured state as a candidate for the best one."""
    violation = report["violation_p999"]
    return BestState(
        state=state,
        passed=int(not unmet_thresholds(report, stage)),
        backoffs=backoffs,
        success=report["success_rate"],
        violation=violation if math.isfinite(violation) else math.inf,
    )


def after_stage_start(monitor: MonitorState, first: BestState, stage: int) -> MonitorState:
    """A new stage: the state it starts from becomes the best one, whatever came before."""
    return monitor.replace(best=first, stage=stage, failures=0)


def after_measurement(monitor: MonitorState, found: BestState) -> MonitorState:
    """Count failures, undo one back-off on a pass, keep the better state.

    Of two equal states the later one wins if it passes, since it has trained longer; otherwise it may be the one that
    went wrong. A failing state that is the best so far resets the failures: there is nothing better to roll back to.
    """
    better = found.rank > monitor.best.rank or (found.passed and found.rank == monitor.best.rank)
    best = found if better else monitor.best
    backoffs = max(monitor.backoffs - 1, 0) if found.passed else monitor.backoffs
    failures = 0 if found.passed or better else monitor.failures + 1
    return monitor.replace(best=best, failures=failures, backoffs=backoffs)


def after_rollback(monitor: MonitorState) -> MonitorState:
    """One more back-off, and no failures."""
    return monitor.replace(failures=0, backoffs=monitor.backoffs + 1, rollbacks=monitor.rollbacks + 1)


Monitored = tuple[SafetyState, MonitorState]


class StageMonitor:
    """Applies the ``Monitor`` settings. Stateless: each method takes a ``MonitorState`` and returns the next one."""

    def __init__(self, config: Monitor, measures: StageMeasures, recorder: Recorder) -> None:
        self._config, self._measures, self._recorder = config, measures, recorder

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

    def measure(self, state: SafetyState, monitor: MonitorState, index: int, stage: Stage, margin: Scalar) -> Monitored:
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

    def count_gate_failure(self, state: SafetyState, monitor: MonitorState, stage: Stage, unmet: str) -> Monitored:
        """The gate at the end of a stage has failed, which counts as a failed measurement."""
        updated = monitor.replace(failures=monitor.failures + 1)
        self._recorder.metrics(int(state.step) - 1, {"monitor/failures": float(updated.failures)})
        return self._check_patience(state, updated, stage, unmet)

    def _check_patience(self, state: SafetyState, monitor: MonitorState, stage: Stage, unmet: str) -> Monitored:
        if monitor.failures <= self._config.patience:
            return state, monitor
        failed = f"failed {monitor.failures} measurements in a row, the last with {unmet}"
        return self.roll_back(state, monitor, stage, failed)

    def roll_back(self, state: SafetyState, monitor: MonitorState, stage: Stage, reason: str) -> Monitored:
        """The stage's best state at the current step, to be trained more cautiously; raises :class:`TrainingError` if
        ``monitor.rollbacks`` roll-backs have been used up."""
        step, best = int(state.step), monitor.best
        if monitor.rollbacks >= self._config.rollbacks:
            raise TrainingError(
                f"stage {stage.name} at step {step}: {reason}, after {monitor.rollbacks} roll-backs; lower the "
                "learning rate, ask less of the stage (success_threshold, violation_threshold), or raise "
                "monitor.rollbacks"
            )
        monitor = after_rollback(monitor)
        scales = scales_of(monitor, self._config)
        self._recorder.metrics(step - 1, {"monitor/rollbacks": float(monitor.rollbacks)})
        self._recorder.event(
            step,
            f"stage {stage.name}: {reason}; rolled back to step {int(best.state.step)} (success {best.success:.3f}, "
            f"violation {best.violation:.3f}), blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}, "
            f"learning rates x {scales.learning_rate:.3g}",
        )
        return monitor.best_at(state), monitor

    def report_backoffs(self, monitor: MonitorState, step: int) -> None:
        """Record an event if training ends with back-offs in force."""
        scales = scales_of(monitor, self._config)
        if monitor.backoffs:
            factors = f"blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}"
            self._recorder.event(step, f"training ends backed off, and has not recovered: {factors}")

    def _controller(self, state: SafetyState, monitor: MonitorState, stage: Stage, margin: Scalar) -> ControllerParams:
        """Controller of ``state`` with the blend in force."""
        return controller_of(state, margin, scales_of(monitor, self._config).blend * stage.blend)

    def _save_best(self, best: BestState, index: int, margin: Scalar) -> None:
        tree = {**exported_networks(best.state), "margin": margin, "stage": jnp.int32(index)}
        self._recorder.checkpoint(int(best.state.step), tree, "best")
