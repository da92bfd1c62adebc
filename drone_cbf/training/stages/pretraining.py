"""Stage two: the neural barrier learns the analytic one, value and gradient, on sampled and on flown states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from drone_cbf.arrays import Scalar, concatenate_trees, safe_norm
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import Comparison, braking_audit, usable_margin
from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.devices import jit_rarely_run, jit_update, put_replicated, replicate, shard_batch
from drone_cbf.flights import make_flyer
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller
from drone_cbf.training.barrier.boundary_states import KEPT_NEAR_BOUNDARY, make_comparer, nearest_to_boundary
from drone_cbf.training.barrier.sampled_states import hold_out_strata, make_sampled_batch
from drone_cbf.training.barrier.sobolev import make_sobolev_loss
from drone_cbf.training.barrier.validation import BarrierValidation, StrataReports
from drone_cbf.training.data.flights import make_graph_collector, report_key
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import ALL_SCENES, PretrainingSettings
from drone_cbf.training.update.gradient_health import (
    health_figures,
    on_host,
    skip_if_unhealthy,
    unhealthy,
    watch_health,
)
from drone_cbf.training.update.optimisers import make_optimiser

COLLECTED_NOISE = 0.05
"""Each flight of the parent's policy draws its observation noise up to this [m]."""
VALIDATE_EVERY = 250
"""Updates between two points of the validation curve."""


@struct.dataclass
class PretrainingState:
    """All that evolves: what a resume needs."""

    barrier: BarrierParams
    optimiser: optax.OptState
    step: Scalar
    skipped: Scalar
    """Updates skipped because their loss or gradient was not finite."""


@dataclass(frozen=True)
class PretrainingResult:
    """What the stage hands on."""

    barrier: BarrierParams
    margin: float
    """Calibration margin [m]."""
    report: dict[str, float]
    comparison: Comparison
    """Held-out closed-loop states, for the calibration figure."""
    strata: StrataReports
    """The same of held-out sampled states, by stratum."""


def make_pretraining_update(
    system: SystemConfig, settings: PretrainingSettings, optimiser: optax.GradientTransformation
) -> Callable[[PretrainingState, Graph, jax.Array], tuple[PretrainingState, dict[str, Scalar]]]:
    """Function (state, flown graphs, root key) -> (state, figures): one update on a fresh batch."""
    loss_terms = make_sobolev_loss(system)
    flown_count = round(settings.policy_states * settings.batch)
    sample = make_sampled_batch(system, settings.batch - flown_count, settings.strata)
    temperature_at = make_temperature_schedule(system, settings)

    def loss(barrier: BarrierParams, graphs: Graph, step: Scalar) -> tuple[Scalar, dict[str, Scalar]]:
        terms = loss_terms(barrier, graphs, temperature_at(step))
        return sum(terms.values()), terms

    def update(state: PretrainingState, flown: Graph, root: jax.Array) -> tuple[PretrainingState, dict[str, Scalar]]:
        sample_key, pick_key = jax.random.split(jax.random.fold_in(root, state.step))
        picked = jax.random.randint(pick_key, (flown_count,), 0, flown.mask.shape[0])
        graphs = shard_batch(concatenate_trees(sample(sample_key), jax.tree.map(lambda leaf: leaf[picked], flown)))
        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.barrier, graphs, state.step)
        changes, optimiser_state = optimiser.update(gradient, state.optimiser, state.barrier)
        figures = {f"loss/{name}": value for name, value in terms.items()}
        figures |= {"loss/total": total} | health_figures({"cbf": gradient})
        barrier = optax.apply_updates(state.barrier, changes)
        following = state.replace(barrier=barrier, optimiser=optimiser_state, step=state.step + 1)
        following, figures = skip_if_unhealthy(state, following, figures)
        return replicate(following), figures

    return update


def make_temperature_schedule(system: SystemConfig, settings: PretrainingSettings) -> Callable[[Scalar], Scalar | None]:
    """Function from the update's number to the teacher's soft-min temperature [m]; None where it is the configured one.

    At a larger temperature the ridges between surfaces are rounder, so that a network finds them before it sharpens
    them; what it must estimate in the end is the barrier at the configured one.
    """
    if not settings.temperatures:
        return lambda step: None
    parts = jnp.asarray((*settings.temperatures, system.barrier.temperature), jnp.float32)
    return lambda step: parts[jnp.minimum(step * len(parts) // settings.steps, len(parts) - 1)]


def pretrain_barrier(
    system: SystemConfig,
    settings: PretrainingSettings,
    policy: PolicyParams,
    recorder: Recorder,
    start: BarrierParams | None = None,
) -> PretrainingResult:
    """Train the neural barrier, from scratch or from ``start``; calibrate it on held-out flights that it filters.

    Raises:
        TrainingError: more updates than ``nonfinite_limit`` had a loss or gradient that is not finite, or no held-out
            state is near the boundary.
    """
    root = jax.random.key(settings.seed)
    barrier = initial_barrier_params(system, report_key(root, 0)) if start is None else jax.tree.map(jnp.copy, start)
    taught = ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(0.0))
    collect, compare = _make_collector(system, settings), make_comparer(system)
    flown, held_out = collect(taught, 1), collect(taught, 2)
    strata = hold_out_strata(system, report_key(root, 5))

    def judge(barrier: BarrierParams) -> BarrierValidation:
        return strata.judge(compare, barrier, held_out)

    opening = judge(barrier).metrics("initial") if start is not None else {}
    state = _learn(system, settings, barrier, flown, recorder, judge, opening)
    learned = taught.replace(barrier=state.barrier, blend=jnp.float32(1.0))
    judgement = strata.judge(compare, state.barrier, collect(learned, 3))
    report = judgement.report() | audit_analytic_barrier(system, report_key(root, 4))
    margin = usable_margin(report)
    tree = {"barrier": state.barrier, "optimiser": state.optimiser, "step": state.step, "margin": margin}
    recorder.checkpoint(settings.steps, tree, "final")
    return PretrainingResult(state.barrier, margin, report, judgement.flown, judgement.strata_reports())


def _learn(
    system: SystemConfig,
    settings: PretrainingSettings,
    barrier: BarrierParams,
    flown: Graph,
    recorder: Recorder,
    judge: Callable[[BarrierParams], BarrierValidation],
    opening: dict[str, float],
) -> PretrainingState:
    """All updates left, from ``barrier`` or what an interrupted run stored; ``opening``: first figures."""
    root = jax.random.key(settings.seed)
    optimiser = make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), settings.steps)
    fresh = PretrainingState(
        barrier=barrier, optimiser=optimiser.init(barrier), step=jnp.int32(0), skipped=jnp.int32(0)
    )
    state = put_replicated(recorder.restore(fresh))
    update = jit_update(make_pretraining_update(system, settings, optimiser), donate_argnums=0)
    first = int(state.step)
    recorder.begin("pretrain_cbf", settings.steps, first)
    for step in range(first, settings.steps):
        state, figures = update(state, flown, root)
        values = on_host(figures) | (opening if step == 0 else {})
        judged = step % VALIDATE_EVERY == VALIDATE_EVERY - 1 or step == settings.steps - 1
        if judged:
            values |= judge(state.barrier).metrics("validation")
        if judged or step % settings.log_every == 0 or unhealthy(values):
            recorder.metrics(step, values)
        watch_health(values, step, settings.nonfinite_limit, recorder, state, {"root": root, "flown": flown})
        if (step + 1) % settings.checkpoint_every == 0:
            recorder.progress(step + 1, state)
    return state


def _make_collector(system: SystemConfig, settings: PretrainingSettings) -> Callable[[ControllerParams, int], Graph]:
    """Function (controller parameters, purpose) -> states near the boundary, from flights drawn for that purpose."""
    root = jax.random.key(settings.seed)
    fly = make_flyer(system, make_filtered_controller(system), settings.horizon)
    collect = make_graph_collector(system, fly, ALL_SCENES, settings.report_flights)

    def near_boundary(params: ControllerParams, purpose: int) -> Graph:
        graphs = collect(params, COLLECTED_NOISE, 1.0, report_key(root, purpose))
        return nearest_to_boundary(graphs, system, KEPT_NEAR_BOUNDARY)

    return near_boundary


def audit_analytic_barrier(system: SystemConfig, key: jax.Array, count: int = 4096) -> dict[str, float]:
    """Analytic barrier at rest against true clearance over random states: how cautious is the teacher itself?"""
    graphs = jit_rarely_run(make_sampled_batch(system, count))(key)
    resting = graphs.replace(relative_velocity=jnp.zeros_like(graphs.relative_velocity))
    value = jax.jit(jax.vmap(make_analytic_barrier(system)))(resting)
    nearest = jnp.min(safe_norm(graphs.relative_position), axis=-1) - system.physics.drone_radius
    seen = np.asarray(graphs.mask.any(-1))
    return braking_audit(np.asarray(value)[seen], np.asarray(nearest)[seen])
