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
from drone_cbf.barrier.calibration import Comparison, calibration_report, usable_margin
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.devices import compiled, place_everywhere
from drone_cbf.errors import TrainingError
from drone_cbf.objectives.summaries import flight_report
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams
from drone_cbf.training.anchors import is_anchored
from drone_cbf.training.averaging import handed_on, networks_of, start_averages
from drone_cbf.training.curriculum import Stage
from drone_cbf.training.flights import Measured, make_graph_collector, report_key
from drone_cbf.training.gradient_health import on_host, watch_health
from drone_cbf.training.joint_update import (
    Optimisers,
    SafetyState,
    SafetyUpdate,
    conditions_of,
    make_safety_update,
    make_trained_controller,
    start_replay,
)
from drone_cbf.training.measuring import StageMeasures, prefixed
from drone_cbf.training.monitor import Watch, missed_thresholds, start_watch
from drone_cbf.training.optimisers import make_optimiser
from drone_cbf.training.pretraining import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.watching import Watcher, adaptive_figures, best_that_met, on_devices

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
class Course:
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
class Progress:
    """All that evolves: what an interrupted run goes on from."""

    state: SafetyState
    course: Course
    watch: Watch | None = None
    """What the monitor remembers, where there is one."""


def train_safety(
    system: SystemConfig,
    settings: SafetySettings,
    policy: PolicyParams,
    barrier: BarrierParams,
    margin: float,
    recorder: Recorder,
) -> SafetyResult:
    """Train both networks through the curriculum, then calibrate the barrier anew.

    A stage that misses its thresholds at its end goes on from its best state, if that met them; else it is trained half
    its steps longer, ``monitor.extensions`` times; if it still misses, ``monitor.gate`` says what follows.

    Raises:
        TrainingError: more updates than ``nonfinite_limit`` had a loss or gradient that is not finite and no monitor rolls
            back, the monitor gave up, or a stage missed its thresholds and the gate is closed.
    """
    root = jax.random.key(settings.seed)
    trainer = _Trainer(system, settings, policy, jnp.float32(margin), root, recorder)
    progress = recorder.restore(trainer.start(policy, barrier))
    progress = Progress(
        state=place_everywhere(progress.state),
        course=jax.tree.map(int, progress.course),
        watch=progress.watch and on_devices(progress.watch),
    )
    recorder.begin("safety", trainer.total(progress.course), int(progress.state.step))
    while progress.course.stage < len(settings.curriculum.stages):
        progress = trainer.advance(progress)
    if progress.watch:
        trainer.watcher.finish(progress.watch, int(progress.state.step))
    return _finish(system, settings, progress.state, root, recorder, trainer)


class _Trainer:
    """Moves through the curriculum an update or a measurement at a time, and keeps what was compiled."""

    def __init__(
        self,
        system: SystemConfig,
        settings: SafetySettings,
        teacher: PolicyParams,
        margin: Scalar,
        root: jax.Array,
        recorder: Recorder,
    ) -> None:
        self.system, self.settings, self.margin = system, settings, margin
        self.teacher = place_everywhere(teacher) if is_anchored(settings.curriculum) else None
        self.root, self.recorder = root, recorder
        total = settings.curriculum.total_steps
        self.optimisers = Optimisers(
            policy=make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), total),
            barrier=make_optimiser(OptimiserConfig(learning_rate=settings.barrier_learning_rate), total),
        )
        self.updates: dict[int, SafetyUpdate] = {}
        self.measures = StageMeasures(system, settings, make_trained_controller(system, settings), root)
        self.monitor = settings.curriculum.monitor
        self.watcher = Watcher(self.monitor, self.measures, self.controller, margin, recorder)
        self.report: dict[str, float] = {}

    def start(self, policy: PolicyParams, barrier: BarrierParams) -> Progress:
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
        return Progress(state, Course(), start_watch(state) if self.monitor.every else None)

    def total(self, course: Course) -> int:
        """Updates of the whole curriculum, as far as is known."""
        return self.settings.curriculum.total_steps + course.added

    def advance(self, progress: Progress) -> Progress:
        """One update and what the monitor makes of it, or at the end of a stage its gate."""
        course, watch = progress.course, progress.watch
        stage = self.settings.curriculum.stages[course.stage]
        if watch and watch.stage != course.stage:
            progress = progress.replace(watch=self.watcher.enter(progress.state, watch, course.stage, stage))
        total = stage.steps + course.extra
        if course.done >= total:
            return self._end_stage(progress, stage)
        state, watch = self._update(progress, stage)
        course = course.replace(done=course.done + 1)
        if watch and self.watcher.is_due(course.done, total):
            state, watch = self.watcher.look(state, watch, course.stage, stage)
        progress = Progress(state, course, watch)
        if int(state.step) % self.settings.checkpoint_every == 0:
            self.recorder.progress(int(state.step), progress)
        return progress

    def controller(self, state: SafetyState, blend: float) -> ControllerParams:
        """What is flown to measure ``state``."""
        policy, barrier = networks_of(state)
        return ControllerParams(policy=policy, barrier=barrier, margin=self.margin, blend=jnp.float32(blend))

    def _update(self, progress: Progress, stage: Stage) -> tuple[SafetyState, Watch | None]:
        """One update; where too many were not finite, the monitor rolls back, and without one training ends."""
        watch, step = progress.watch, int(progress.state.step)
        if stage.horizon not in self.updates:
            update = make_safety_update(self.system, self.settings, stage.horizon, self.optimisers)
            self.updates[stage.horizon] = compiled(update)
        scales = self.watcher.scales(watch) if watch else None
        conditions = conditions_of(self.settings.curriculum, stage, scales).replace(teacher=self.teacher)
        state, figures = self.updates[stage.horizon](progress.state, conditions, self.margin, self.root)
        values = on_host(figures)
        values |= {"curriculum/stage": float(progress.course.stage)} | (adaptive_figures(scales) if scales else {})
        self.recorder.metrics(step, values)
        given = {"conditions": conditions, "margin": self.margin, "root": self.root}
        try:
            watch_health(values, step, self.settings.nonfinite_limit, self.recorder, state, given)
        except TrainingError as error:
            if watch is None:
                raise
            return self.watcher.roll_back(state, watch, stage, str(error))
        return state, watch

    def _end_stage(self, progress: Progress, stage: Stage) -> Progress:
        """Through the gate to the next stage, or longer, or no further."""
        course, watch = progress.course, progress.watch
        state, missed = self._gate(progress, stage)
        if missed and course.extensions < self.monitor.extensions:
            return progress.replace(course=self._extended(course, stage, missed, int(state.step)))
        if missed:
            still = f"stage {stage.name}: still {missed}" if course.extensions else f"stage {stage.name}: {missed}"
            if self.monitor.gate == "fail":
                raise TrainingError(f"{still}; lower its thresholds, train it longer, or set monitor.gate to warn")
            self.recorder.event(int(state.step), f"{still}; going on")
        tree = {**handed_on(state), "margin": self.margin, "stage": jnp.int32(course.stage + 1)}
        self.recorder.checkpoint(int(state.step), tree, f"stage_{course.stage + 1}_{stage.name}")
        watch = watch and watch.replace(backoffs=watch.backoffs if missed else 0)
        return Progress(state, Course(stage=course.stage + 1, added=course.added), watch)

    def _gate(self, progress: Progress, stage: Stage) -> tuple[SafetyState, str]:
        """The state that leaves the stage, and what it misses: the last one, or the best if that misses nothing.

        Measured under the stage's own conditions, whatever was backed off.
        """
        state, index = progress.state, progress.course.stage
        measured = self._fly(state, index, stage)
        missed = missed_thresholds(flight_report(measured.flown.metrics), stage)
        best = best_that_met(progress.watch, state) if missed and progress.watch else None
        if best is not None:
            again = self._fly(best, index, stage)
            if not missed_thresholds(flight_report(again.flown.metrics), stage):
                earlier = int(progress.watch.best.state.step)
                text = f"stage {stage.name}: {missed}; going on from step {earlier}, which met the thresholds"
                self.recorder.event(int(state.step), text)
                state, measured, missed = best, again, ""
        self._record(state, measured, index, stage)
        return state, missed

    def _extended(self, course: Course, stage: Stage, missed: str, step: int) -> Course:
        extra = max(1, stage.steps // 2)
        course = course.replace(
            extra=course.extra + extra, added=course.added + extra, extensions=course.extensions + 1
        )
        self.recorder.begin("safety", self.total(course))
        self.recorder.event(step, f"stage {stage.name}: {missed}; training {extra} more steps")
        return course

    def _fly(self, state: SafetyState, index: int, stage: Stage) -> Measured:
        return self.measures.fly(self.controller(state, stage.blend), index, stage, self.settings.report_flights)

    def _record(self, state: SafetyState, measured: Measured, index: int, stage: Stage) -> None:
        """Figures and pictures of the state that leaves a stage, or is to be trained longer."""
        step = int(state.step) - 1
        self.report = flight_report(measured.flown.metrics)
        self.recorder.flights(step, measured.some(SHOWN_FLIGHTS), stage.noise)
        controller = self.controller(state, stage.blend)
        robust = self.measures.robust_report(controller, index, stage) if self.monitor.every else {}
        self.recorder.metrics(step, prefixed("eval", self.report) | prefixed("robust", robust))


def _finish(
    system: SystemConfig,
    settings: SafetySettings,
    state: SafetyState,
    root: jax.Array,
    recorder: Recorder,
    trainer: _Trainer,
) -> SafetyResult:
    """Calibrate on held-out flights of the final pair, save everything, and sum up beside the last stage's figures."""
    last = settings.curriculum.stages[-1]
    fly = trainer.measures.flyer(last.horizon)
    collect = make_graph_collector(system, fly, settings.scenes, settings.report_flights)
    policy, barrier = networks_of(state)
    controller = ControllerParams(
        policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(last.blend)
    )
    flown = collect(controller, last.noise, last.augment, report_key(root, 1))
    held_out = nearest_to_boundary(flown, system, KEPT_NEAR_BOUNDARY)
    comparison = make_comparer(system)(barrier, held_out)
    report = trainer.report | calibration_report(comparison)
    margin = usable_margin(report)
    recorder.checkpoint(int(state.step), {**handed_on(state), "margin": margin}, "final")
    return SafetyResult(policy=policy, barrier=barrier, margin=margin, report=report, comparison=comparison)
