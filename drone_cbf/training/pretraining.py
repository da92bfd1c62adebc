"""Stage two: the neural barrier learns the analytic one, value and gradient, on sampled and on flown states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from drone_cbf.arrays import Scalar, joined, safe_norm
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import Comparison, braking_audit, make_comparison, usable_margin
from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params, make_neural_barrier
from drone_cbf.barrier.strata import make_stratum_sampler
from drone_cbf.config import OptimiserConfig, SystemConfig
from drone_cbf.devices import compiled, compiled_quickly, everywhere, place_everywhere, spread
from drone_cbf.flights import make_flyer
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.goal_conditioned import PolicyParams
from drone_cbf.rollout import ControllerParams, make_filtered_controller
from drone_cbf.training.batches import make_batch_sampler
from drone_cbf.training.flights import make_graph_collector, report_key
from drone_cbf.training.gradient_health import health_figures, on_host, unhealthy, unless_unhealthy, watch_health
from drone_cbf.training.mixture import STRATA, parse_strata, stratum_counts
from drone_cbf.training.optimisers import make_optimiser
from drone_cbf.training.recorder import Recorder
from drone_cbf.training.settings import ALL_SCENES, PretrainingSettings
from drone_cbf.training.sobolev import make_sobolev_loss, velocity_scale
from drone_cbf.training.validation import Comparer, HeldOutStrata, Judgement, StrataReports

SCENES_PER_BATCH = 64
"""Random scenes among which the sampled states of one batch are spread."""
COLLECTED_NOISE = 0.05
"""Each flight of the parent's policy draws its observation noise up to this [m]."""
KEPT_NEAR_BOUNDARY = 16_384
"""Of the flown states, those with the smallest |h| are kept: the rest is far from every decision."""
STRATA_STATES = 8192
"""Sampled states held out for the reports on strata, shared evenly by them."""
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


def nearest_to_boundary(graphs: Graph, system: SystemConfig, count: int) -> Graph:
    """The ``count`` graphs (leading axis) with the smallest analytic |h|."""
    value = jax.lax.map(make_analytic_barrier(system), graphs, batch_size=4096)
    order = jnp.argsort(jnp.abs(value))[:count]
    return jax.tree.map(lambda x: x[order], graphs)


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
        graphs = spread(joined(sample(sample_key), jax.tree.map(lambda leaf: leaf[picked], flown)))
        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.barrier, graphs, state.step)
        changes, optimiser_state = optimiser.update(gradient, state.optimiser, state.barrier)
        figures = {f"loss/{name}": value for name, value in terms.items()}
        figures |= {"loss/total": total} | health_figures({"cbf": gradient})
        barrier = optax.apply_updates(state.barrier, changes)
        following = state.replace(barrier=barrier, optimiser=optimiser_state, step=state.step + 1)
        following, figures = unless_unhealthy(state, following, figures)
        return everywhere(following), figures

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


def make_sampled_batch(
    system: SystemConfig, count: int, strata: Sequence[str] = ("open:1",)
) -> Callable[[jax.Array], Graph]:
    """Function from a key to ``count`` random states (leading axis) of fresh scenes of every family.

    ``strata``: entries ``name:weight``; the states of each stratum lie together, and are spread over all the scenes.
    """
    scenes_count = max(1, min(SCENES_PER_BATCH, count))
    sample_scenes = make_batch_sampler(system, ALL_SCENES, scenes_count)
    counts = stratum_counts(parse_strata(strata), count)
    samplers = {name: make_stratum_sampler(name, system) for name in counts}

    def sample(key: jax.Array) -> Graph:
        scene_key, state_key = jax.random.split(key)
        scenes, keys = sample_scenes(scene_key, 1.0), jax.random.split(state_key, count)
        parts, first = [], 0
        for name, size in counts.items():
            rows = np.arange(size) % scenes_count if size >= scenes_count else np.arange(size) * scenes_count // size
            chosen = jax.tree.map(lambda x: x[rows], scenes)
            parts.append(jax.vmap(samplers[name])(chosen, keys[first : first + size]))
            first += size
        return joined(*parts)

    return sample


def hold_out_strata(system: SystemConfig, key: jax.Array) -> HeldOutStrata:
    """Fresh states of every stratum, in even shares."""
    entries = [f"{name}:1" for name in STRATA]
    graphs = compiled_quickly(make_sampled_batch(system, STRATA_STATES, entries))(key)
    return HeldOutStrata(graphs=graphs, counts=stratum_counts(parse_strata(entries), STRATA_STATES))


def make_comparer(system: SystemConfig) -> Comparer:
    """Compiled function (parameters, graphs with a leading axis) -> neural beside analytic barrier."""
    analytic, neural = make_analytic_barrier(system), make_neural_barrier(system)
    compare = make_comparison(velocity_scale(system))

    @jax.jit
    def comparer(params: BarrierParams, graphs: Graph) -> Comparison:
        return jax.lax.map(lambda graph: compare(analytic, neural(params), graph), graphs, batch_size=4096)

    return comparer


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

    def judge(barrier: BarrierParams) -> Judgement:
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
    judge: Callable[[BarrierParams], Judgement],
    opening: dict[str, float],
) -> PretrainingState:
    """All updates left, from ``barrier`` or what an interrupted run stored; ``opening``: first figures."""
    root = jax.random.key(settings.seed)
    optimiser = make_optimiser(OptimiserConfig(learning_rate=settings.learning_rate), settings.steps)
    fresh = PretrainingState(
        barrier=barrier, optimiser=optimiser.init(barrier), step=jnp.int32(0), skipped=jnp.int32(0)
    )
    state = place_everywhere(recorder.restore(fresh))
    update = compiled(make_pretraining_update(system, settings, optimiser), donate_argnums=0)
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
    graphs = compiled_quickly(make_sampled_batch(system, count))(key)
    resting = graphs.replace(relative_velocity=jnp.zeros_like(graphs.relative_velocity))
    value = jax.jit(jax.vmap(make_analytic_barrier(system)))(resting)
    nearest = jnp.min(safe_norm(graphs.relative_position), axis=-1) - system.physics.drone_radius
    seen = np.asarray(graphs.mask.any(-1))
    return braking_audit(np.asarray(value)[seen], np.asarray(nearest)[seen])
