"""Stage three: policy and barrier learn together, through the filter, under a curriculum.

The policy learns from the flight's loss through the filter. The barrier learns from its own losses on the states the
policy visits; the task gradient that reaches it through the filter is weighted by ``barrier_task_gradient``, zero by
default, since the task loss teaches a barrier to open (DESIGN 4, "a trap").
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import jit_update, put_replicated
from drone_cbf.errors import TrainingError
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.training.barrier.held_out_losses import make_held_out_losses
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.monitor.measurements import StageMeasures, controller_of, prefixed
from drone_cbf.training.monitor.stage_end import StageEnd, evaluate_stage_end, make_calibrator
from drone_cbf.training.monitor.stage_monitor import (
    StageMonitor,
    adaptive_figures,
    best_passing_state,
    restored_monitor,
)
from drone_cbf.training.monitor.state import MonitorState, initial_monitor
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.anchors import is_anchored
from drone_cbf.training.update.averaging import exported_networks, networks_of, start_averages
from drone_cbf.training.update.gradient_health import on_host, watch_health
from drone_cbf.training.update.joint_update import (
    SafetyState,
    SafetyUpdate,
    conditions_of,
    make_safety_update,
    make_trained_controller,
    start_replay,
)
from drone_cbf.training.update.optimisers import joint_optimisers

SHOWN_FLIGHTS = 3
"""Of the flights that measure a stage, the ones that a picture shows: one of each family, where there are three."""


@dataclass(frozen=True)
class SafetyResult:
    """What the stage hands on."""

    policy: PolicyParams
    barrier: BarrierParams
    margin: float
    """Calibration margin of the final barrier on the final policy's flights [m]."""
    report: dict[str, float]
    comparison: Comparison
    """Held-out closed-loop states, for the calibration figure."""


@struct.dataclass
class CurriculumPosition:
    """Where training stands in its curriculum."""

    stage: int = 0
    """Index of the stage under way; the number of stages when all are done."""
    done: int = 0
    """Updates of that stage so far."""
    extra: int = 0
    """Updates added to that stage because it missed its thresholds."""
    extensions: int = 0
    """How often they were added."""
    added: int = 0
    """Updates added to all stages so far."""


@struct.dataclass
class SafetyProgress:
    """All that evolves: what an interrupted run goes on from."""

    state: SafetyState
    course: CurriculumPosition
    margin: Scalar
    """Subtracted from the neural barrier [m]: of the calibration at the end of the last stage, at first the
    parent's."""
    entered: BarrierParams
    """The barrier with which the stage began."""
    watch: MonitorState | None = None
    """What the monitor remembers, where there is one."""


def train_safety(
    system: SystemConfig,
    settings: SafetySettings,
    policy: PolicyParams,
    barrier: BarrierParams,
    margin: float,
    recorder: Recorder,
) -> SafetyResult:
    """Train both networks through the curriculum; at the end of each stage the barrier is calibrated anew.

    A stage that misses its thresholds at its end, with that margin, goes on from its best state, if that met them; else
    it is trained half its steps longer, ``monitor.extensions`` times; if it still misses, ``monitor.gate`` says what
    follows.

    Raises:
        TrainingError: more updates than ``nonfinite_limit`` had a loss or gradient that is not finite and no monitor
            rolls back, the monitor gave up, a stage missed its thresholds and the gate is closed, or the barrier cannot
            be calibrated.
    """
    trainer = _Trainer(system, settings, policy, jax.random.key(settings.seed), recorder)
    progress = recorder.restore(trainer.start(policy, barrier, margin))
    progress = SafetyProgress(
        state=put_replicated(progress.state),
        course=jax.tree.map(int, progress.course),
        margin=jnp.float32(progress.margin),
        entered=put_replicated(progress.entered),
        watch=progress.watch and restored_monitor(progress.watch),
    )
    recorder.begin("safety", trainer.total(progress.course), int(progress.state.step))
    while progress.course.stage < len(settings.curriculum.stages):
        progress = trainer.advance(progress)
    if progress.watch:
        trainer.watcher.finish(progress.watch, int(progress.state.step))
    return _finish(trainer.leaving, recorder)


def _finish(leaving: StageEnd, recorder: Recorder) -> SafetyResult:
    """Save what leaves the last stage, and sum it up."""
    state, margin = leaving.state, leaving.report["margin"]
    recorder.checkpoint(int(state.step), {**exported_networks(state), "margin": margin}, "final")
    policy, barrier = networks_of(state)
    return SafetyResult(
        policy=policy, barrier=barrier, margin=margin, report=leaving.report, comparison=leaving.comparison
    )


class _Trainer:
    """Moves through the curriculum an update or a measurement at a time, and keeps what was compiled."""

    def __init__(
        self,
        system: SystemConfig,
        settings: SafetySettings,
        teacher: PolicyParams,
        root: jax.Array,
        recorder: Recorder,
    ) -> None:
        self.system, self.settings = system, settings
        self.teacher = put_replicated(teacher) if is_anchored(settings.curriculum) else None
        self.root, self.recorder = root, recorder
        self.optimisers = joint_optimisers(settings)
        self.updates: dict[int, SafetyUpdate] = {}
        self.measures = StageMeasures(system, settings, make_trained_controller(system, settings), root)
        self.monitor = settings.curriculum.monitor
        self.calibrate = make_calibrator(system, settings, self.measures, root)
        self.held_out_losses = make_held_out_losses(system, settings, root)
        self.watcher = StageMonitor(self.monitor, self.measures, recorder)
        self.leaving: StageEnd | None = None
        """What left the last stage that was ended."""

    def start(self, policy: PolicyParams, barrier: BarrierParams, margin: float) -> SafetyProgress:
        """The state before the first update."""
        state = SafetyState(
            policy=policy,
            barrier=barrier,
            policy_optimiser=self.optimisers.policy.init(policy),
            barrier_optimiser=self.optimisers.barrier.init(barrier),
            step=jnp.int32(0),
            skipped=jnp.int32(0),
            averages=start_averages(self.settings.curriculum.learning.ema, policy, barrier),
            replay=start_replay(self.system, self.settings),
        )
        watch = initial_monitor(state) if self.monitor.every else None
        return SafetyProgress(state, CurriculumPosition(), jnp.float32(margin), barrier, watch)

    def total(self, course: CurriculumPosition) -> int:
        """Updates of the whole curriculum, as far as is known."""
        return self.settings.curriculum.total_steps + course.added

    def advance(self, progress: SafetyProgress) -> SafetyProgress:
        """One update and what the monitor makes of it, or at the end of a stage its gate."""
        course, watch = progress.course, progress.watch
        stage = self.settings.curriculum.stages[course.stage]
        if watch and watch.stage != course.stage:
            watch = self.watcher.enter(progress.state, watch, course.stage, stage, progress.margin)
            progress = progress.replace(watch=watch)
        total = stage.steps + course.extra
        if course.done >= total:
            return self._end_stage(progress, stage)
        state, watch = self._update(progress, stage)
        course = course.replace(done=course.done + 1)
        if watch and self.watcher.is_due(course.done, total):
            state, watch = self.watcher.look(state, watch, course.stage, stage, progress.margin)
        progress = progress.replace(state=state, course=course, watch=watch)
        if int(state.step) % self.settings.checkpoint_every == 0:
            self.recorder.progress(int(state.step), progress)
        return progress

    def _update(self, progress: SafetyProgress, stage: Stage) -> tuple[SafetyState, MonitorState | None]:
        """One update; where too many were not finite, the monitor rolls back, and without one training ends."""
        watch, step, margin = progress.watch, int(progress.state.step), progress.margin
        if stage.horizon not in self.updates:
            update = make_safety_update(self.system, self.settings, stage.horizon, self.optimisers)
            self.updates[stage.horizon] = jit_update(update)
        scales = self.watcher.scales(watch) if watch else None
        conditions = conditions_of(self.settings.curriculum, stage, scales).replace(teacher=self.teacher)
        state, figures = self.updates[stage.horizon](progress.state, conditions, margin, self.root)
        values = on_host(figures)
        values |= {"curriculum/stage": float(progress.course.stage)}
        values |= adaptive_figures(scales) if watch and watch.rollbacks else {}  # until then all factors are 1
        self.recorder.metrics(step, values)
        given = {"conditions": conditions, "margin": margin, "root": self.root}
        try:
            watch_health(values, step, self.settings.nonfinite_limit, self.recorder, state, given)
        except TrainingError as error:
            if watch is None:
                raise
            return self.watcher.roll_back(state, watch, stage, str(error))
        return state, watch

    def _end_stage(self, progress: SafetyProgress, stage: Stage) -> SafetyProgress:
        """Through the gate to the next stage, or longer, or no further."""
        course, watch = progress.course, progress.watch
        leaving = self._gate(progress, stage)
        if leaving.missed and course.extensions < self.monitor.extensions:
            return self._extended(progress, stage, leaving)
        step = int(leaving.state.step)
        if leaving.missed:
            still = "still " if course.extensions else ""
            missed = f"stage {stage.name}: {still}{leaving.missed}"
            if self.monitor.gate == "fail":
                raise TrainingError(f"{missed}; lower its thresholds, train it longer, or set monitor.gate to warn")
            self.recorder.event(step, f"{missed}; going on")
        tree = {**exported_networks(leaving.state), "margin": leaving.margin, "stage": jnp.int32(course.stage + 1)}
        self.recorder.checkpoint(step, tree, f"stage_{course.stage + 1}_{stage.name}")
        self.leaving = leaving
        watch = watch and watch.replace(backoffs=watch.backoffs if leaving.missed else 0)
        course = CurriculumPosition(stage=course.stage + 1, added=course.added)
        return SafetyProgress(leaving.state, course, leaving.margin, networks_of(leaving.state)[1], watch)

    def _gate(self, progress: SafetyProgress, stage: Stage) -> StageEnd:
        """What leaves the stage: the last state, or the best one if that misses nothing.

        Measured under the stage's own conditions, whatever was backed off.
        """
        state, index = progress.state, progress.course.stage
        leaving = self._examine(state, index, stage)
        best = best_passing_state(progress.watch, state) if leaving.missed and progress.watch else None
        if best is not None:
            again = self._examine(best, index, stage)
            if not again.missed:
                earlier = int(progress.watch.best.state.step)
                text = f"stage {stage.name}: {leaving.missed}; going on from step {earlier}, which met the thresholds"
                self.recorder.event(int(state.step), text)
                leaving = again
        self._record(leaving, index, stage, progress.entered)
        return leaving

    def _examine(self, state: SafetyState, index: int, stage: Stage) -> StageEnd:
        return evaluate_stage_end(state, index, stage, self.calibrate, self.measures, self.settings.report_flights)

    def _extended(self, progress: SafetyProgress, stage: Stage, leaving: StageEnd) -> SafetyProgress:
        """The stage half its steps longer; from its best state if failures in a row, with this one, exceed patience."""
        course, watch, state = progress.course, progress.watch, progress.state
        extra = max(1, stage.steps // 2)
        course = course.replace(
            extra=course.extra + extra, added=course.added + extra, extensions=course.extensions + 1
        )
        self.recorder.begin("safety", self.total(course))
        self.recorder.event(int(state.step), f"stage {stage.name}: {leaving.missed}; training {extra} more steps")
        if watch:
            state, watch = self.watcher.missed_gate(state, watch, stage, leaving.missed)
        return progress.replace(state=state, course=course, watch=watch)

    def _record(self, leaving: StageEnd, index: int, stage: Stage, entered: BarrierParams) -> None:
        """Figures and pictures of the state that leaves a stage, or is to be trained longer."""
        step = int(leaving.state.step) - 1
        self.recorder.flights(step, leaving.measured.some(SHOWN_FLIGHTS), stage.noise)
        controller = controller_of(leaving.state, leaving.margin, stage.blend)
        robust = self.measures.robust_report(controller, index, stage) if self.monitor.every else {}
        taught = self.held_out_losses(entered, networks_of(leaving.state)[1], leaving.measured)
        figures = prefixed("eval", leaving.report) | prefixed("robust", robust) | prefixed("held_out", taught)
        self.recorder.metrics(step, figures)
