"""Stage three: policy and barrier learn together, through the filter, under a curriculum.

The policy learns from the flight's loss through the filter. The barrier learns from its own losses on the states the
policy visits; the task gradient that reaches it through the filter is weighted by ``barrier_task_gradient``, zero by
default, since the task loss teaches a barrier to open (DESIGN 4, "a trap").
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.calibration import Comparison, calibration_report
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.objectives.summaries import flight_report
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller
from drone_cbf.training.checks import check_finite
from drone_cbf.training.curriculum import Stage
from drone_cbf.training.flights import FlightMeasure, make_flight_measure, make_graph_collector, report_key
from drone_cbf.training.joint_update import Optimisers, SafetyState, SafetyUpdate, conditions_of, make_safety_update
from drone_cbf.training.optimisers import make_optimiser
from drone_cbf.training.pretraining import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import SafetySettings

STAGE_FLIGHTS = 255
"""Flights that measure a stage at its end."""
CALIBRATION_FLIGHTS = 192
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
    total = settings.curriculum.total_steps
    optimisers = Optimisers(
        policy=make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), total),
        barrier=make_optimiser(OptimiserConfig(learning_rate=settings.barrier_learning_rate), total),
    )
    state = SafetyState(
        policy=policy,
        barrier=barrier,
        policy_optimiser=optimisers.policy.init(policy),
        barrier_optimiser=optimisers.barrier.init(barrier),
        step=jnp.int32(0),
    )
    trainer = _StageTrainer(system, settings, optimisers, jnp.float32(margin), root, recorder)
    recorder.begin("safety", total)
    for index, stage in enumerate(settings.curriculum.stages):
        state = trainer.train_stage(state, index, stage)
    return _finish(system, settings, state, root, recorder, trainer.report)


class _StageTrainer:
    """Runs stages one after the other and keeps what was compiled for each horizon."""

    def __init__(
        self,
        system: SystemConfig,
        settings: SafetySettings,
        optimisers: Optimisers,
        margin: Scalar,
        root: jax.Array,
        recorder: Recorder,
    ) -> None:
        self.system, self.settings, self.margin = system, settings, margin
        self.root, self.recorder, self.optimisers = root, recorder, optimisers
        self.updates: dict[int, SafetyUpdate] = {}
        self.measures: dict[int, FlightMeasure] = {}
        self.extra_steps = 0
        self.report: dict[str, float] = {}

    def train_stage(self, state: SafetyState, index: int, stage: Stage) -> SafetyState:
        """Train, measure, and if the thresholds are missed train half as long again and measure once more."""
        state = self._updates(state, index, stage, stage.steps)
        missed = self._measure(state, index, stage)
        if missed:
            extra = max(1, stage.steps // 2)
            self.extra_steps += extra
            self.recorder.begin("safety", self.settings.curriculum.total_steps + self.extra_steps)
            self.recorder.event(int(state.step), f"stage {stage.name}: {missed}; training {extra} more steps")
            state = self._updates(state, index, stage, extra)
            missed = self._measure(state, index, stage)
            if missed:
                self.recorder.event(int(state.step), f"stage {stage.name}: still {missed}; going on")
        tree = {"state": state, "margin": self.margin, "stage": jnp.int32(index + 1)}
        self.recorder.checkpoint(int(state.step), tree, f"stage_{index + 1}_{stage.name}")
        return state

    def _updates(self, state: SafetyState, index: int, stage: Stage, steps: int) -> SafetyState:
        if stage.horizon not in self.updates:
            update = make_safety_update(self.system, self.settings, stage.horizon, self.optimisers)
            self.updates[stage.horizon] = jax.jit(update)
        conditions = conditions_of(stage)
        for _ in range(steps):
            step = int(state.step)
            state, figures = self.updates[stage.horizon](state, conditions, self.margin, self.root)
            values = {name: float(value) for name, value in figures.items()} | {"curriculum/stage": float(index)}
            self.recorder.metrics(step, values)
            check_finite(values, step)
        return state

    def _measure(self, state: SafetyState, index: int, stage: Stage) -> str:
        """Measure under the stage's own conditions; says what is missed, or nothing."""
        if stage.horizon not in self.measures:
            controller = make_filtered_controller(self.system)
            self.measures[stage.horizon] = make_flight_measure(
                self.system, controller, self.settings.scenes, STAGE_FLIGHTS, stage.horizon
            )
        controller = ControllerParams(
            policy=state.policy, barrier=state.barrier, margin=self.margin, blend=jnp.float32(stage.blend)
        )
        conditions = conditions_of(stage)
        key = report_key(self.root, 10 + index)
        flights = self.measures[stage.horizon](controller, conditions.noise, conditions.augment, key)
        self.report = report = flight_report(flights)
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
    last_report: dict[str, float],
) -> SafetyResult:
    """Calibrate on held-out flights of the final pair, save everything, and sum up beside the last stage's figures."""
    last = settings.curriculum.stages[-1]
    collect = make_graph_collector(
        system,
        make_filtered_controller(system),
        settings.scenes,
        flights=CALIBRATION_FLIGHTS,
        horizon=last.horizon,
        noise=last.noise,
        augment=last.augment,
    )
    controller = ControllerParams(
        policy=state.policy, barrier=state.barrier, margin=jnp.float32(0.0), blend=jnp.float32(last.blend)
    )
    held_out = nearest_to_boundary(collect(controller, report_key(root, 1)), system, KEPT_NEAR_BOUNDARY)
    comparison = make_comparer(system)(state.barrier, held_out)
    report = last_report | calibration_report(comparison)
    tree = {"state": state, "margin": report["margin"]}
    recorder.checkpoint(int(state.step), tree, "final")
    return SafetyResult(
        policy=state.policy, barrier=state.barrier, margin=report["margin"], report=report, comparison=comparison
    )
