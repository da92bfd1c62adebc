"""The monitor at work: measures a stage under its own conditions, reports, and rolls training back."""

from __future__ import annotations

from collections.abc import Mapping

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
    missed_thresholds,
    scales_of,
)
from drone_cbf.training.update.averaging import exported_networks
from drone_cbf.training.update.joint_update import SafetyState


class StageMonitor:
    """Carries out what ``Monitor`` asks for. Its memory is the ``MonitorState`` that it is given and returns."""

    def __init__(self, config: Monitor, measures: StageMeasures, recorder: Recorder) -> None:
        self._config, self._measures, self._recorder = config, measures, recorder

    def scales(self, watch: MonitorState) -> Scales:
        """Factors in force."""
        return scales_of(watch, self._config)

    def is_due(self, done: int, total: int) -> bool:
        """Whether to measure after ``done`` of a stage's ``total`` updates; at the end the stage's gate does."""
        return done % self._config.every == 0 and done < total

    def enter(self, state: SafetyState, watch: MonitorState, index: int, stage: Stage, margin: Scalar) -> MonitorState:
        """A stage begins: how good is the state under its conditions? That is what later states have to beat."""
        report = self._measures.report(self._flown(state, watch, stage, margin), index, stage)
        shown = {"entry_success": report["success_rate"], "entry_violation": report["violation_p999"]}
        self._recorder.metrics(int(state.step), prefixed("monitor", shown))
        first = candidate(state, report, stage, watch.backoffs)
        self._keep(first, index, margin)
        return after_stage_start(watch, first, index)

    def look(
        self, state: SafetyState, watch: MonitorState, index: int, stage: Stage, margin: Scalar
    ) -> tuple[SafetyState, MonitorState]:
        """Measure in the midst of a stage; beyond patience, roll back."""
        flown = self._flown(state, watch, stage, margin)
        report = self._measures.report(flown, index, stage)
        robust = self._measures.robust_report(flown, index, stage)
        found = candidate(state, report, stage, watch.backoffs)
        following = after_measurement(watch, found)
        values = prefixed("eval", report) | prefixed("robust", robust)
        self._recorder.metrics(int(state.step) - 1, values | {"monitor/failures": float(following.failures)})
        if following.best is found:
            self._keep(found, index, margin)
        return self._judge(state, following, stage, missed_thresholds(report, stage))

    def missed_gate(
        self, state: SafetyState, watch: MonitorState, stage: Stage, missed: str
    ) -> tuple[SafetyState, MonitorState]:
        """The measurement at a stage's end has failed as others do, and the stage is trained longer."""
        following = after_failure(watch)
        self._recorder.metrics(int(state.step) - 1, {"monitor/failures": float(following.failures)})
        return self._judge(state, following, stage, missed)

    def _judge(
        self, state: SafetyState, watch: MonitorState, stage: Stage, missed: str
    ) -> tuple[SafetyState, MonitorState]:
        """Go on, or beyond patience roll back."""
        if watch.failures <= self._config.patience:
            return state, watch
        times = f"{watch.failures} measurements in a row, the last with {missed}"
        return self.roll_back(state, watch, stage, f"failed {times}")

    def roll_back(
        self, state: SafetyState, watch: MonitorState, stage: Stage, reason: str
    ) -> tuple[SafetyState, MonitorState]:
        """The best state of the stage at the present step, trained on more cautiously.

        Raises:
            TrainingError: that was done ``rollbacks`` times before.
        """
        step, best = int(state.step), watch.best
        if watch.rollbacks >= self._config.rollbacks:
            raise TrainingError(
                f"stage {stage.name} at step {step}: {reason}, after {watch.rollbacks} roll-backs; lower the learning "
                "rate, ask less of the stage (success_threshold, violation_threshold), or raise monitor.rollbacks"
            )
        watch = after_rollback(watch)
        scales = self.scales(watch)
        self._recorder.metrics(step - 1, {"monitor/rollbacks": float(watch.rollbacks)})
        self._recorder.event(
            step,
            f"stage {stage.name}: {reason}; rolled back to step {int(best.state.step)} (success {best.success:.3f}, "
            f"violation {best.violation:.3f}), blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}, "
            f"learning rates x {scales.learning_rate:.3g}",
        )
        return at_current_step(best.state, state), watch

    def finish(self, watch: MonitorState, step: int) -> None:
        """Says where training ends with conditions that are not the curriculum's own."""
        scales = self.scales(watch)
        if watch.backoffs:
            factors = f"blend x {scales.blend:.3g}, penalties x {scales.penalty:.3g}"
            self._recorder.event(step, f"training ends backed off, and has not recovered: {factors}")

    def _flown(self, state: SafetyState, watch: MonitorState, stage: Stage, margin: Scalar) -> ControllerParams:
        """What is measured: the state under the blend in force."""
        return controller_of(state, margin, self.scales(watch).blend * stage.blend)

    def _keep(self, best: BestState, index: int, margin: Scalar) -> None:
        tree = {**exported_networks(best.state), "margin": margin, "stage": jnp.int32(index)}
        self._recorder.checkpoint(int(best.state.step), tree, "best")


def adaptive_figures(scales: Scales) -> Mapping[str, float]:
    """Metrics of the factors in force."""
    return {
        "adaptive/blend_scale": scales.blend,
        "adaptive/penalty_scale": scales.penalty,
        "adaptive/learning_rate_scale": scales.learning_rate,
    }


def at_current_step(earlier: SafetyState, state: SafetyState) -> SafetyState:
    """An earlier state, going on where ``state`` is: no step is repeated, each has its own figures and randomness.

    What was skipped stays counted.
    """
    return earlier.replace(step=state.step, skipped=state.skipped)


def best_passing_state(watch: MonitorState, state: SafetyState) -> SafetyState | None:
    """The stage's best state at the step of ``state``, if it met the thresholds under the stage's own conditions."""
    best = watch.best
    return at_current_step(best.state, state) if best.passed and not best.backoffs else None


def restored_monitor(watch: MonitorState) -> MonitorState:
    """A restored monitor, its best state on the devices and its counts as numbers of the host."""
    numbers = watch.replace(best=watch.best.replace(state=None))
    numbers = jax.tree.map(lambda leaf: np.asarray(leaf).item(), numbers)
    return numbers.replace(best=numbers.best.replace(state=put_replicated(watch.best.state)))
