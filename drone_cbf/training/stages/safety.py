"""Stage three: joint training of policy and barrier through the filter, under a curriculum.

The policy learns from the flight's loss through the filter, the barrier from its own losses on the states that the
policy visits. The task gradient that reaches the barrier through the filter is weighted by ``barrier_task_gradient``,
zero by default, because the task loss teaches a barrier to open (docs/findings.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import put_replicated
from drone_cbf.errors import TrainingError
from drone_cbf.flights import policy_flyer
from drone_cbf.policy.policies import PolicyParams
from drone_cbf.recorder import Recorder
from drone_cbf.training.barrier.validation import make_held_out_losses
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.data.replay_buffer import initial_replay_buffer
from drone_cbf.training.monitor.measurements import (
    StageEnd,
    StageMeasures,
    controller_of,
    make_end_measurement,
    prefixed,
)
from drone_cbf.training.monitor.stage_monitor import MonitorState, StageMonitor, initial_monitor, scales_of
from drone_cbf.training.population import OwnPrograms, Programs
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.anchors import uses_anchor
from drone_cbf.training.update.averaging import exported_networks, initial_averages, networks_of
from drone_cbf.training.update.gradient_health import check_health, to_floats
from drone_cbf.training.update.joint_update import (
    SafetyState,
    conditions_of,
    make_safety_update,
)
from drone_cbf.training.update.optimisers import joint_optimisers

SHOWN_FLIGHTS = 3
"""Flights of a stage's final measurement that are recorded for pictures."""


@dataclass(frozen=True)
class SafetyResult:
    """Both networks, with the metrics of the last stage's end."""

    policy: PolicyParams
    barrier: BarrierParams
    margin: float
    """Calibration margin of the final barrier on the final policy's flights [m]."""
    report: dict[str, float]
    comparison: Comparison
    """Both barriers on held-out closed-loop states."""


@struct.dataclass
class CurriculumPosition:
    """Position in the curriculum: index of the stage (the number of stages when all are done), updates ``done`` in it,
    ``extra`` updates and number of ``extensions`` for missing its thresholds, and ``added`` updates of all stages."""

    stage: int = 0
    done: int = 0
    extra: int = 0
    extensions: int = 0
    added: int = 0


@struct.dataclass
class SafetyProgress:
    """Everything that evolves: what resuming an interrupted run needs."""

    state: SafetyState
    position: CurriculumPosition
    margin: Scalar
    """Calibration margin of the neural barrier at the end of the last stage, initially the parent's [m]."""
    initial_barrier: BarrierParams
    """The barrier at the start of the current stage."""
    monitor: MonitorState | None = None

    def restored(self) -> SafetyProgress:
        """Progress read from a checkpoint: networks on the devices, the position as Python numbers."""
        return SafetyProgress(
            state=put_replicated(self.state),
            position=jax.tree.map(int, self.position),
            margin=jnp.float32(self.margin),
            initial_barrier=put_replicated(self.initial_barrier),
            monitor=self.monitor and self.monitor.restored(),
        )


def train_safety(
    system: SystemConfig,
    settings: SafetySettings,
    policy: PolicyParams,
    barrier: BarrierParams,
    margin: float,
    recorder: Recorder,
    programs: Programs | None = None,
) -> SafetyResult:
    """Train both networks through the curriculum; the barrier is recalibrated at the end of each stage.

    If a stage misses its thresholds at its end, training continues from its best state, provided that one meets them.
    Otherwise the stage is extended by half its steps, up to ``monitor.extensions`` times; if it still misses them,
    ``monitor.gate`` decides.

    Args:
        margin: calibration margin of ``barrier`` [m].
        programs: those of the population that this training is a member of, if any.

    Raises:
        TrainingError: more than ``nonfinite_limit`` updates had a non-finite loss or gradient and there is no monitor,
            the monitor ran out of roll-backs, a stage missed its thresholds with ``monitor.gate = fail``, or the
            barrier cannot be calibrated.
    """
    trainer = _CurriculumTrainer(system, settings, policy, recorder, programs or OwnPrograms())
    progress = recorder.restore(trainer.initial_progress(policy, barrier, margin)).restored()
    total = settings.curriculum.total_steps + progress.position.added
    recorder.begin("safety", total, int(progress.state.step))
    while progress.position.stage < len(settings.curriculum.stages):
        progress = trainer.advance(progress)
    if progress.monitor:
        trainer.stage_monitor.report_backoffs(progress.monitor, int(progress.state.step))
    assert trainer.stage_end is not None
    return _finish(trainer.stage_end, recorder)


def _finish(end: StageEnd, recorder: Recorder) -> SafetyResult:
    """Save the final checkpoint."""
    state, margin = end.state, end.report["margin"]
    recorder.checkpoint(int(state.step), {**exported_networks(state), "margin": margin}, "final")
    policy, barrier = networks_of(state)
    return SafetyResult(policy=policy, barrier=barrier, margin=margin, report=end.report, comparison=end.comparison)


class _CurriculumTrainer:
    """Advances through the curriculum one update or measurement at a time; caches compiled programs."""

    def __init__(
        self,
        system: SystemConfig,
        settings: SafetySettings,
        teacher: PolicyParams,
        recorder: Recorder,
        programs: Programs,
    ) -> None:
        self.system, self.settings, self.recorder = system, settings, recorder
        self.root, self.config = jax.random.key(settings.seed), settings.curriculum.monitor
        self.teacher = put_replicated(teacher) if uses_anchor(settings.curriculum) else None
        self.optimisers = optimisers = joint_optimisers(settings)
        self.update_of = programs.shared(
            "update",
            lambda jit: cache(
                lambda horizon: jit(make_safety_update(system, settings, horizon, optimisers), held=(3,))
            ),
        )
        flyer = partial(policy_flyer, system, settings.curriculum.learning.filtered)
        self.measures = StageMeasures(system, settings, flyer, self.root, programs)
        self.measure_end = make_end_measurement(system, settings, self.measures, self.root, programs)
        self.held_out_losses = programs.shared("held_out", lambda jit: make_held_out_losses(system, settings))
        self.stage_monitor = StageMonitor(self.config, self.measures, recorder)
        self.stage_end: StageEnd | None = None
        """End of the last completed stage."""

    def initial_progress(self, policy: PolicyParams, barrier: BarrierParams, margin: float) -> SafetyProgress:
        """Progress before the first update."""
        state = SafetyState(
            policy=policy,
            barrier=barrier,
            policy_optimiser=self.optimisers.policy.init(policy),
            barrier_optimiser=self.optimisers.barrier.init(barrier),
            step=jnp.int32(0),
            skipped=jnp.int32(0),
            averages=initial_averages(self.settings.curriculum.learning.ema, policy, barrier),
            replay=initial_replay_buffer(self.system, self.settings),
        )
        monitor = initial_monitor(state) if self.config.every else None
        return SafetyProgress(state, CurriculumPosition(), jnp.float32(margin), barrier, monitor)

    def advance(self, progress: SafetyProgress) -> SafetyProgress:
        """One update with a measurement if due, or the gate at the end of a stage."""
        position, monitor = progress.position, progress.monitor
        stage = self.settings.curriculum.stages[position.stage]
        if monitor and monitor.stage != position.stage:
            monitor = self.stage_monitor.start_stage(progress.state, monitor, position.stage, stage, progress.margin)
            progress = progress.replace(monitor=monitor)
        total = stage.steps + position.extra
        if position.done >= total:
            return self._end_stage(progress, stage)
        state, monitor = self._update(progress, stage)
        position = position.replace(done=position.done + 1)
        if monitor and position.done % self.config.every == 0 and position.done < total:  # its end is the gate's
            state, monitor = self.stage_monitor.measure(state, monitor, position.stage, stage, progress.margin)
        progress = progress.replace(state=state, position=position, monitor=monitor)
        if int(state.step) % self.settings.checkpoint_every == 0:
            self.recorder.progress(int(state.step), progress)
        return progress

    def _update(self, progress: SafetyProgress, stage: Stage) -> tuple[SafetyState, MonitorState | None]:
        """One update. After too many non-finite ones the monitor rolls back; without a monitor training fails."""
        monitor, step, margin = progress.monitor, int(progress.state.step), progress.margin
        scales = scales_of(monitor, self.config) if monitor else None
        conditions = conditions_of(self.settings.curriculum, stage, scales).replace(teacher=self.teacher)
        state, metrics = self.update_of(stage.horizon)(progress.state, conditions, margin, self.root)
        values = to_floats(metrics) | {"curriculum/stage": float(progress.position.stage)}
        if monitor and monitor.rollbacks:  # until the first roll-back all factors are 1
            values |= {f"adaptive/{name}_scale": factor for name, factor in vars(scales).items()}
        self.recorder.metrics(step, values)
        inputs = {"conditions": conditions, "margin": margin, "root": self.root}
        try:
            check_health(values, step, self.settings.nonfinite_limit, self.recorder, state, inputs)
        except TrainingError as error:
            if monitor is None:
                raise
            return self.stage_monitor.roll_back(state, monitor, stage, str(error))
        return state, monitor

    def _end_stage(self, progress: SafetyProgress, stage: Stage) -> SafetyProgress:
        """Pass the gate to the next stage, extend the stage, or fail."""
        position, monitor, end = progress.position, progress.monitor, self._select_end(progress, stage)
        if end.unmet and position.extensions < self.config.extensions:
            return self._extend(progress, stage, end)
        step = int(end.state.step)
        if end.unmet:
            still = "still " if position.extensions else ""
            unmet = f"stage {stage.name}: {still}{end.unmet}"
            if self.config.gate == "fail":
                raise TrainingError(f"{unmet}; lower its thresholds, train it longer, or set monitor.gate to warn")
            self.recorder.event(step, f"{unmet}; going on")
        tree = {**exported_networks(end.state), "margin": end.margin, "stage": jnp.int32(position.stage + 1)}
        self.recorder.checkpoint(step, tree, f"stage_{position.stage + 1}_{stage.name}")
        self.stage_end = end
        monitor = monitor and monitor.replace(backoffs=monitor.backoffs if end.unmet else 0)
        position = CurriculumPosition(stage=position.stage + 1, added=position.added)
        return SafetyProgress(end.state, position, end.margin, networks_of(end.state)[1], monitor)

    def _select_end(self, progress: SafetyProgress, stage: Stage) -> StageEnd:
        """The last state, or the best one if only that one meets the thresholds, both evaluated under the stage's own
        conditions, without back-offs. Records its metrics and flights."""
        state, index, monitor = progress.state, progress.position.stage, progress.monitor
        end = self.measure_end(state, index, stage)
        best = monitor.best_passing(state) if end.unmet and monitor else None
        if monitor and best is not None and not (best_end := self.measure_end(best, index, stage)).unmet:
            earlier = int(monitor.best.state.step)
            text = f"stage {stage.name}: {end.unmet}; going on from step {earlier}, which met the thresholds"
            self.recorder.event(int(state.step), text)
            end = best_end
        step, controller = int(end.state.step) - 1, controller_of(end.state, end.margin, stage.blend)
        self.recorder.flights(step, end.measured.subset(SHOWN_FLIGHTS), stage.noise)
        robust = self.measures.robust_report(controller, index, stage) if self.config.every else {}
        losses = self.held_out_losses(progress.initial_barrier, networks_of(end.state)[1], end.measured, self.root)
        metrics = prefixed("eval", end.report) | prefixed("robust", robust) | prefixed("held_out", losses)
        self.recorder.metrics(step, metrics)
        return end

    def _extend(self, progress: SafetyProgress, stage: Stage, end: StageEnd) -> SafetyProgress:
        """Extend the stage by half its steps; the missed gate counts as a failure and may roll back."""
        at, monitor, state = progress.position, progress.monitor, progress.state
        extra = max(1, stage.steps // 2)
        position = at.replace(extra=at.extra + extra, added=at.added + extra, extensions=at.extensions + 1)
        self.recorder.begin("safety", self.settings.curriculum.total_steps + position.added)
        self.recorder.event(int(state.step), f"stage {stage.name}: {end.unmet}; training {extra} more steps")
        if monitor:
            state, monitor = self.stage_monitor.count_gate_failure(state, monitor, stage, end.unmet)
        return progress.replace(state=state, position=position, monitor=monitor)
