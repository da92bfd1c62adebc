"""Stage three: policy and barrier learn together, through the filter, under a curriculum.

The policy learns from the flight's loss through the filter. The barrier learns from its own losses on the states the
policy visits; the task gradient that reaches it through the filter is weighted by ``barrier_task_gradient``, zero by
default, since the task loss teaches a barrier to open (DESIGN 4, "a trap").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, scale_gradient, tree_norm
from drone_cbf.barrier.calibration import Comparison, calibration_report
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.objectives.summaries import filter_figures, flight_report, quick_figures
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller, make_rollout
from drone_cbf.training.batches import make_batch_sampler
from drone_cbf.training.checks import check_finite
from drone_cbf.training.curriculum import Stage
from drone_cbf.training.flights import make_flight_measure, make_graph_collector, report_key
from drone_cbf.training.optimisers import make_optimiser
from drone_cbf.training.pretraining import KEPT_NEAR_BOUNDARY, make_comparer, make_sampled_batch, nearest_to_boundary
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.sobolev import make_sobolev_loss

BARRIER_BATCH = 512
"""Visited states per update on which the barrier learns, and as many sampled ones against forgetting."""
STAGE_FLIGHTS = 255
"""Flights that measure a stage at its end."""
CALIBRATION_FLIGHTS = 192
"""Held-out flights behind the final margin."""


@struct.dataclass
class Conditions:
    """What a curriculum stage sets, as arrays: one compiled update serves all stages of a horizon."""

    noise: Scalar
    """Largest observation noise [m, m/s]."""
    blend: Scalar
    augment: Scalar


@struct.dataclass
class SafetyState:
    """All that evolves: what a resume needs."""

    policy: PolicyParams
    barrier: BarrierParams
    policy_optimiser: optax.OptState
    barrier_optimiser: optax.OptState
    step: Scalar


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


SafetyUpdate = Callable[[SafetyState, Conditions, Scalar, jax.Array], tuple[SafetyState, dict[str, Scalar]]]
"""(state, conditions, margin [m], root key) -> (state, figures)."""


def make_safety_loss(system: SystemConfig, settings: SafetySettings, horizon: int):
    """Function (networks, conditions, margin, key) -> (batch times loss, figures); networks = {"policy", "barrier"}.

    Times the batch, so that ``physics.gradient_limit`` means the same for every batch size.
    """
    rollout = make_rollout(system, make_filtered_controller(system), horizon, rematerialise=True)
    flight_loss = make_flight_loss(system, filtered=True)
    barrier_loss = make_sobolev_loss(system)
    sample_scenes = make_batch_sampler(system, settings.scenes, settings.batch)
    sample_states = make_sampled_batch(system, BARRIER_BATCH)

    def loss(networks: dict, conditions: Conditions, margin: Scalar, key: jax.Array):
        scene_key, flight_key, noise_key, visit_key, state_key = jax.random.split(key, 5)
        scenes = sample_scenes(scene_key, conditions.augment)
        keys = jax.random.split(flight_key, settings.batch)
        noise = conditions.noise * jax.random.uniform(noise_key, (settings.batch,))
        controller = ControllerParams(
            policy=networks["policy"],
            barrier=scale_gradient(networks["barrier"], settings.barrier_task_gradient),
            margin=margin,
            blend=conditions.blend,
        )
        flights = jax.vmap(rollout, in_axes=(None, 0, 0, 0))(controller, scenes, noise, keys)
        terms = jax.tree.map(jnp.mean, jax.vmap(flight_loss)(flights, scenes))
        visited = visited_states(flights.graphs, BARRIER_BATCH, visit_key)
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), visited, sample_states(state_key))
        lessons = barrier_loss(networks["barrier"], states)
        figures = {f"loss/{name}": value for name, value in (terms | lessons).items()}
        figures |= {"loss/total": sum((terms | lessons).values())}
        figures |= quick_figures(flights, scenes, system) | filter_figures(flights)
        return settings.batch * figures["loss/total"], figures

    return loss


def visited_states(graphs: Graph, count: int, key: jax.Array) -> Graph:
    """``count`` states picked evenly at random from flights (leading axes: flight, step), without gradient."""
    flat = jax.tree.map(lambda x: jax.lax.stop_gradient(x.reshape(-1, *x.shape[2:])), graphs)
    picked = jax.random.randint(key, (count,), 0, flat.mask.shape[0])
    return jax.tree.map(lambda x: x[picked], flat)


@dataclass(frozen=True)
class Optimisers:
    """One for each network."""

    policy: optax.GradientTransformation
    barrier: optax.GradientTransformation


def make_safety_update(
    system: SystemConfig, settings: SafetySettings, horizon: int, optimisers: Optimisers
) -> SafetyUpdate:
    """One update of both networks, each by its own optimiser."""
    loss = make_safety_loss(system, settings, horizon)

    def update(state: SafetyState, conditions: Conditions, margin: Scalar, root: jax.Array):
        key = jax.random.fold_in(root, state.step)
        networks = {"policy": state.policy, "barrier": state.barrier}
        gradient, figures = jax.grad(loss, has_aux=True)(networks, conditions, margin, key)
        gradient = jax.tree.map(lambda leaf: leaf / settings.batch, gradient)
        policy_change, policy_optimiser = optimisers.policy.update(
            gradient["policy"], state.policy_optimiser, state.policy
        )
        barrier_change, barrier_optimiser = optimisers.barrier.update(
            gradient["barrier"], state.barrier_optimiser, state.barrier
        )
        figures |= {
            "grad_norm/policy": tree_norm(gradient["policy"]),
            "grad_norm/cbf": tree_norm(gradient["barrier"]),
            "curriculum/noise": conditions.noise,
            "curriculum/blend": conditions.blend,
            "curriculum/augment": conditions.augment,
        }
        following = SafetyState(
            policy=optax.apply_updates(state.policy, policy_change),
            barrier=optax.apply_updates(state.barrier, barrier_change),
            policy_optimiser=policy_optimiser,
            barrier_optimiser=barrier_optimiser,
            step=state.step + 1,
        )
        return following, figures

    return update


def conditions_of(stage: Stage) -> Conditions:
    """The stage's settings as arrays."""
    return Conditions(
        noise=jnp.float32(stage.noise), blend=jnp.float32(stage.blend), augment=jnp.float32(stage.augment)
    )


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
    return _finish(system, settings, state, root, recorder)


class _StageTrainer:
    """Runs stages one after the other and keeps what was compiled for each horizon."""

    def __init__(self, system, settings, optimisers, margin, root, recorder):
        self.system, self.settings, self.margin = system, settings, margin
        self.root, self.recorder, self.optimisers = root, recorder, optimisers
        self.updates, self.measures, self.extra_steps = {}, {}, 0

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
        report = flight_report(
            self.measures[stage.horizon](controller, conditions.noise, conditions.augment, key)
        )
        self.recorder.metrics(int(state.step) - 1, {f"eval/{name}": value for name, value in report.items()})
        missed = []
        if report["success_rate"] < stage.success_threshold:
            missed.append(f"success {report['success_rate']:.3f} below {stage.success_threshold:g}")
        if report["violation_p999"] > stage.violation_threshold:
            missed.append(f"violation {report['violation_p999']:.3f} above {stage.violation_threshold:g}")
        return ", ".join(missed)


def _finish(system: SystemConfig, settings: SafetySettings, state: SafetyState, root, recorder) -> SafetyResult:
    """Calibrate on held-out flights of the final pair, save everything, and sum up."""
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
    report = calibration_report(comparison)
    tree = {"state": state, "margin": report["margin"]}
    recorder.checkpoint(int(state.step), tree, "final")
    return SafetyResult(
        policy=state.policy, barrier=state.barrier, margin=report["margin"], report=report, comparison=comparison
    )
