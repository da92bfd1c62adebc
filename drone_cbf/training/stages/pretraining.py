"""Stage two: the neural barrier learns value and gradient of the analytic one, on sampled and on flown states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, concatenate_trees, safe_norm
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import Comparison, braking_audit, usable_margin
from drone_cbf.barrier.lessons import Lesson, uses_truth
from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import OptimiserConfig, SceneName, SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.devices import jit_rarely_run, put_replicated, replicate, shard_batch, to_host
from drone_cbf.flights import policy_flyer
from drone_cbf.policy.policies import PolicyParams
from drone_cbf.recorder import Recorder
from drone_cbf.training.barrier.losses import make_sobolev_loss
from drone_cbf.training.barrier.sampled_states import make_sampled_batch
from drone_cbf.training.barrier.validation import (
    KEPT_NEAR_BOUNDARY,
    BarrierValidation,
    make_comparer,
    nearest_to_boundary,
    sample_held_out_strata,
)
from drone_cbf.training.data.flights import make_lesson_collector, report_key
from drone_cbf.training.population import OwnPrograms, Programs
from drone_cbf.training.settings import PretrainingSettings
from drone_cbf.training.update import gradient_health as health
from drone_cbf.training.update.optimisers import make_optimiser

COLLECTED_NOISE = 0.05
"""Largest observation noise in the flights of the parent's policy [m]."""
POOL_PART, POOL_PARTS = 2048, 12
"""Sampled lessons drawn at a time, and how often, for a sensor whose readings are costly."""
VALIDATE_EVERY = 250
"""Updates between two validations."""


@struct.dataclass
class PretrainingState:
    """The training state: what resuming needs."""

    barrier: BarrierParams
    optimiser: optax.OptState
    step: Scalar
    skipped: Scalar
    """Updates skipped because their loss or gradient was not finite."""


@dataclass(frozen=True)
class PretrainingResult:
    """The barrier and its calibration margin [m]; metrics and both barriers on held-out closed-loop states."""

    barrier: BarrierParams
    margin: float
    report: dict[str, float]
    comparison: Comparison
    strata: dict[str, dict[str, float]]
    """Metrics on held-out sampled states, by stratum."""


def make_pretraining_update(
    system: SystemConfig, settings: PretrainingSettings, optimiser: optax.GradientTransformation
) -> Callable[[PretrainingState, Lesson, Lesson | None, jax.Array], tuple[PretrainingState, dict[str, Scalar]]]:
    """Function (state, flown lessons, sampled lessons or None to sample fresh ones, root key) -> (state, metrics): one
    update on a fresh batch."""
    loss_terms = make_sobolev_loss(system)
    flown_count = round(settings.policy_states * settings.batch)
    sample = make_sampled_batch(system, settings.scenes, settings.batch - flown_count, settings.strata)
    temperature_at = make_temperature_schedule(system, settings)

    def loss(barrier: BarrierParams, lessons: Lesson, step: Scalar) -> tuple[Scalar, dict[str, Scalar]]:
        terms = loss_terms(barrier, lessons, temperature_at(step))
        return sum(terms.values(), start=jnp.float32(0.0)), terms

    def update(
        state: PretrainingState, flown: Lesson, pool: Lesson | None, root: jax.Array
    ) -> tuple[PretrainingState, dict[str, Scalar]]:
        sample_key, flown_key = jax.random.split(jax.random.fold_in(root, state.step))
        rows = jax.random.randint(flown_key, (flown_count,), 0, flown.value.shape[0])
        sampled = sample(sample_key) if pool is None else drawn(pool, settings.batch - flown_count, sample_key)
        lessons = shard_batch(concatenate_trees(sampled, jax.tree.map(lambda leaf: leaf[rows], flown)))
        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.barrier, lessons, state.step)
        changes, optimiser_state = optimiser.update(gradient, state.optimiser, state.barrier)
        metrics = {f"loss/{name}": value for name, value in terms.items()}
        metrics |= {"loss/total": total} | health.health_metrics({"cbf": gradient})
        barrier = optax.apply_updates(state.barrier, changes)
        updated = state.replace(barrier=barrier, optimiser=optimiser_state, step=state.step + 1)
        updated, metrics = health.skip_if_nonfinite(state, updated, metrics)
        return replicate(updated), metrics

    return update


def drawn(pool: Lesson, count: int, key: jax.Array) -> Lesson:
    """``count`` random lessons of ``pool``."""
    rows = jax.random.randint(key, (count,), 0, pool.value.shape[0])
    return jax.tree.map(lambda leaf: leaf[rows], pool)


def scanned_pool(
    system: SystemConfig, settings: PretrainingSettings, key: jax.Array, programs: Programs
) -> Lesson | None:
    """Sampled lessons for all updates where each takes several scans; None where fresh ones cost little."""
    if not uses_truth(system):
        return None
    sample = programs.shared(
        "pool", lambda jit: jax.jit(make_sampled_batch(system, settings.scenes, POOL_PART, settings.strata))
    )
    parts = [to_host(sample(jax.random.fold_in(key, part))) for part in range(POOL_PARTS)]
    return jax.tree.map(jnp.asarray, concatenate_trees(*parts))


def make_temperature_schedule(system: SystemConfig, settings: PretrainingSettings) -> Callable[[Scalar], Scalar | None]:
    """Function from the step to the teacher's soft-min temperature [m]; None for the configured one, which the last
    part of training uses. Larger temperatures smooth the ridges between surfaces."""
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
    programs: Programs | None = None,
) -> PretrainingResult:
    """Train the neural barrier, from scratch or from ``start``, and calibrate it on held-out flights that it filters.

    Raises:
        TrainingError: more than ``nonfinite_limit`` updates had a non-finite loss or gradient, or no held-out state is
            near the boundary.
    """
    programs, root = programs or OwnPrograms(), jax.random.key(settings.seed)
    barrier = initial_barrier_params(system, report_key(root, 0)) if start is None else jax.tree.map(jnp.copy, start)
    analytic = ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(0.0))
    fly = policy_flyer(system, True, settings.horizon)
    flights = settings.report_flights
    collect = programs.shared("collect", lambda jit: make_lesson_collector(system, fly, settings.scenes, flights))

    def near_boundary(params: ControllerParams, purpose: int) -> Lesson:
        lessons = collect(params, COLLECTED_NOISE, 1.0, report_key(root, purpose))
        return nearest_to_boundary(lessons, KEPT_NEAR_BOUNDARY)

    flown, held_out = near_boundary(analytic, 1), near_boundary(analytic, 2)
    strata = sample_held_out_strata(system, settings.scenes, report_key(root, 5), programs)
    compare = programs.shared("compare", lambda jit: make_comparer(system))
    validate = partial(strata.validate, compare, flown=held_out)
    initial = validate(barrier).metrics("initial") if start is not None else {}
    lessons = flown, scanned_pool(system, settings, report_key(root, 6), programs)
    state = _train(system, settings, barrier, lessons, recorder, validate, initial, programs)
    neural = analytic.replace(barrier=state.barrier, blend=jnp.float32(1.0))
    validation = strata.validate(compare, state.barrier, near_boundary(neural, 3))
    report = validation.report() | audit_analytic_barrier(system, settings.scenes, report_key(root, 4), programs)
    margin = usable_margin(report)
    tree = {"barrier": state.barrier, "optimiser": state.optimiser, "step": state.step, "margin": margin}
    recorder.checkpoint(settings.steps, tree, "final")
    return PretrainingResult(state.barrier, margin, report, validation.flown, validation.strata_reports())


def _train(
    system: SystemConfig,
    settings: PretrainingSettings,
    barrier: BarrierParams,
    lessons: tuple[Lesson, Lesson | None],
    recorder: Recorder,
    validate: Callable[[BarrierParams], BarrierValidation],
    initial: dict[str, float],
    programs: Programs,
) -> PretrainingState:
    """All updates, or those left of an interrupted run; the first one also records the metrics ``initial``."""
    root = jax.random.key(settings.seed)
    optimiser = make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), settings.steps)
    fresh = PretrainingState(barrier, optimiser.init(barrier), step=jnp.int32(0), skipped=jnp.int32(0))
    state = put_replicated(recorder.restore(fresh))
    update = programs.shared(
        "update",
        lambda jit: jit(make_pretraining_update(system, settings, optimiser), held=(1, 2, 3), donate_argnums=0),
    )
    first = int(state.step)
    recorder.begin("pretrain_cbf", settings.steps, first)
    for step in range(first, settings.steps):
        state, metrics = update(state, *lessons, root)
        values = health.to_floats(metrics) | (initial if step == 0 else {})
        validated = step % VALIDATE_EVERY == VALIDATE_EVERY - 1 or step == settings.steps - 1
        if validated:
            values |= validate(state.barrier).metrics("validation")
        if validated or step % settings.log_every == 0 or health.nonfinite_sources(values):
            recorder.metrics(step, values)
        inputs = {"root": root, "flown": lessons[0]}
        health.check_health(values, step, settings.nonfinite_limit, recorder, state, inputs)
        if (step + 1) % settings.checkpoint_every == 0:
            recorder.progress(step + 1, state)
    return state


def audit_analytic_barrier(
    system: SystemConfig, families: Sequence[SceneName], key: jax.Array, programs: Programs, count: int = 4096
) -> dict[str, float]:
    """The analytic barrier at rest against the true clearance over random states: how conservative is the teacher?"""
    sample = programs.shared("audited", lambda jit: jit_rarely_run(make_sampled_batch(system, families, count)))
    barrier = programs.shared("analytic", lambda jit: jax.jit(jax.vmap(make_analytic_barrier(system))))
    graphs = sample(key).graph
    resting = graphs.replace(relative_velocity=jnp.zeros_like(graphs.relative_velocity))
    value = barrier(resting)
    nearest = jnp.min(safe_norm(graphs.relative_position), axis=-1) - system.physics.drone_radius
    value, nearest, seen = to_host((value, nearest, graphs.mask.any(-1)))
    return braking_audit(value[seen], nearest[seen])
