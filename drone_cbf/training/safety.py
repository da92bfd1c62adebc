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
from drone_cbf.barrier.calibration import Comparison, calibration_report
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.devices import place_everywhere
from drone_cbf.flights import Flyer, make_flyer
from drone_cbf.objectives.summaries import flight_report
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller
from drone_cbf.training.checks import check_finite
from drone_cbf.training.curriculum import Stage
from drone_cbf.training.flights import FlightMeasure, make_flight_measure, make_graph_collector, report_key
from drone_cbf.training.joint_update import (
    Optimisers,
    SafetyState,
    SafetyUpdate,
    conditions_of,
    make_safety_update,
    start_replay,
)
from drone_cbf.training.optimisers import make_optimiser
from drone_cbf.training.pretraining import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import SafetySettings

STAGE_FLIGHTS = 256
"""Flights that measure a stage at its end."""
SHOWN_FLIGHTS = 3
"""Of these, the ones that a picture shows: one of each family, where there are three."""
CALIBRATION_FLIGHTS = 256
"""Held-out flights behind the final margin."""


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
    added: int = 0
    """Updates added to all stages so far."""


@struct.dataclass
class Progress:
    """All that evolves: what an interrupted run goes on from."""

    state: SafetyState
    course: Course


def train_safety(
    system: SystemConfig,
    settings: SafetySettings,
    policy: PolicyParams,
    barrier: BarrierParams,
    margin: float,
    recorder: Recorder,
) -> SafetyResult:
    """Train both networks through the curriculum, then calibrate the barrier anew.

    A stage that misses its thresholds is trained once more for half its steps; if it still misses, that is recorded
    as an event and training goes on.

    Raises:
        TrainingError: a loss or a gradient became non-finite.
    """
    root = jax.random.key(settings.seed)
    trainer = _Trainer(system, settings, jnp.float32(margin), root, recorder)
    progress = recorder.restore(trainer.start(policy, barrier))
    progress = Progress(place_everywhere(progress.state), jax.tree.map(int, progress.course))
    recorder.begin("safety", trainer.total(progress.course), int(progress.state.step))
    while progress.course.stage < len(settings.curriculum.stages):
        progress = trainer.advance(progress)
    return _finish(system, settings, progress.state, root, recorder, trainer)


class _Trainer:
    """Moves through the curriculum an update or a measurement at a time, and keeps what was compiled."""

    def __init__(
        self, system: SystemConfig, settings: SafetySettings, margin: Scalar, root: jax.Array, recorder: Recorder
    ) -> None:
        self.system, self.settings, self.margin = system, settings, margin
        self.root, self.recorder = root, recorder
        total = settings.curriculum.total_steps
        self.optimisers = Optimisers(
            policy=make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), total),
            barrier=make_optimiser(OptimiserConfig(learning_rate=settings.barrier_learning_rate), total),
        )
        self.updates: dict[int, SafetyUpdate] = {}
        self.flyers: dict[int, Flyer] = {}
        self.measures: dict[int, FlightMeasure] = {}
        self.report: dict[str, float] = {}

    def start(self, policy: PolicyParams, barrier: BarrierParams) -> Progress:
        """The state before the first update."""
        state = SafetyState(
            policy=policy,
            barrier=barrier,
            policy_optimiser=self.optimisers.policy.init(policy),
            barrier_optimiser=self.optimisers.barrier.init(barrier),
            step=jnp.int32(0),
            replay=start_replay(self.system, self.settings),
        )
        return Progress(state, Course())

    def total(self, course: Course) -> int:
        """Updates of the whole curriculum, as far as is known."""
        return self.settings.curriculum.total_steps + course.added

    def advance(self, progress: Progress) -> Progress:
        """One update, or at the end of a stage its measurement and the step to the next."""
        stage = self.settings.curriculum.stages[progress.course.stage]
        if progress.course.done >= stage.steps + progress.course.extra:
            return self._end_stage(progress, stage)
        state = self._update(progress.state, progress.course, stage)
        course = progress.course.replace(done=progress.course.done + 1)
        progress = Progress(state, course)
        if int(state.step) % self.settings.checkpoint_every == 0:
            self.recorder.progress(int(state.step), progress)
        return progress

    def flyer(self, horizon: int) -> Flyer:
        if horizon not in self.flyers:
            self.flyers[horizon] = make_flyer(self.system, make_filtered_controller(self.system), horizon)
        return self.flyers[horizon]

    def _update(self, state: SafetyState, course: Course, stage: Stage) -> SafetyState:
        if stage.horizon not in self.updates:
            update = make_safety_update(self.system, self.settings, stage.horizon, self.optimisers)
            self.updates[stage.horizon] = jax.jit(update)
        step = int(state.step)
        conditions = conditions_of(self.settings.curriculum, stage)
        state, figures = self.updates[stage.horizon](state, conditions, self.margin, self.root)
        values = {name: float(value) for name, value in figures.items()} | {"curriculum/stage": float(course.stage)}
        self.recorder.metrics(step, values)
        check_finite(values, step)
        return state

    def _end_stage(self, progress: Progress, stage: Stage) -> Progress:
        """Measure; a stage that misses its thresholds for the first time is trained half as long again."""
        state, course = progress.state, progress.course
        missed = self._measure(state, course.stage, stage)
        if missed and not course.extra:
            extra = max(1, stage.steps // 2)
            course = course.replace(extra=extra, added=course.added + extra)
            self.recorder.begin("safety", self.total(course))
            self.recorder.event(int(state.step), f"stage {stage.name}: {missed}; training {extra} more steps")
            return Progress(state, course)
        if missed:
            self.recorder.event(int(state.step), f"stage {stage.name}: still {missed}; going on")
        tree = {"state": state, "margin": self.margin, "stage": jnp.int32(course.stage + 1)}
        self.recorder.checkpoint(int(state.step), tree, f"stage_{course.stage + 1}_{stage.name}")
        return Progress(state, Course(stage=course.stage + 1, added=course.added))

    def _measure(self, state: SafetyState, index: int, stage: Stage) -> str:
        """Measure under the stage's own conditions; says what is missed, or nothing."""
        controller = ControllerParams(
            policy=state.policy, barrier=state.barrier, margin=self.margin, blend=jnp.float32(stage.blend)
        )
        if stage.horizon not in self.measures:
            fly = self.flyer(stage.horizon)
            self.measures[stage.horizon] = make_flight_measure(self.system, fly, self.settings.scenes, STAGE_FLIGHTS)
        measured = self.measures[stage.horizon](controller, stage.noise, stage.augment, report_key(self.root, 10 + index))
        self.report = report = flight_report(measured.flown.metrics)
        self.recorder.flights(int(state.step) - 1, measured.some(SHOWN_FLIGHTS), stage.noise)
        self.recorder.metrics(int(state.step) - 1, {f"eval/{name}": value for name, value in report.items()})
        missed = []
        if report["success_rate"] < stage.success_threshold:
            missed.append(f"success {report['success_rate']:.3f} below {stage.success_threshold:g}")
        if report["violation_p999"] > stage.violation_threshold:
            missed.append(f"violation {report['violation_p999']:.3f} above {stage.violation_threshold:g}")
        return ", ".join(missed)


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
    collect = make_graph_collector(system, trainer.flyer(last.horizon), settings.scenes, CALIBRATION_FLIGHTS)
    controller = ControllerParams(
        policy=state.policy, barrier=state.barrier, margin=jnp.float32(0.0), blend=jnp.float32(last.blend)
    )
    flown = collect(controller, last.noise, last.augment, report_key(root, 1))
    held_out = nearest_to_boundary(flown, system, KEPT_NEAR_BOUNDARY)
    comparison = make_comparer(system)(state.barrier, held_out)
    report = trainer.report | calibration_report(comparison)
    tree = {"state": state, "margin": report["margin"]}
    recorder.checkpoint(int(state.step), tree, "final")
    return SafetyResult(
        policy=state.policy, barrier=state.barrier, margin=report["margin"], report=report, comparison=comparison
    )
