"""One joint update of policy and barrier through the filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, scale_gradient
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, Pilot, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.devices import map_sharded, replicate, shard_batch
from drone_cbf.objectives.losses import make_flight_loss
from drone_cbf.objectives.metrics import filter_figures, quick_figures
from drone_cbf.policy.policies import PolicyParams
from drone_cbf.rollout import flights_of_swarms, make_rollout
from drone_cbf.scenes.scene import scene_count
from drone_cbf.training.barrier import minibatches
from drone_cbf.training.barrier.sampled_states import families_beside, make_sampled_batch
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.data.flights import drones_at_once, make_batch_sampler, training_view
from drone_cbf.training.data.replay_buffer import ReplayBuffer, keep_worst, replay_metrics
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.update.anchors import make_anchor_loss
from drone_cbf.training.update.averaging import Averages, make_averaging
from drone_cbf.training.update.balance import Networks, balanced_gradient, split_objectives
from drone_cbf.training.update.gradient_health import health_metrics, skip_if_nonfinite
from drone_cbf.training.update.optimisers import Optimisers

BARRIER_BATCH = 512
"""Flown states in a barrier minibatch, and as many sampled ones against forgetting."""
PENALTY_TERMS = frozenset({"slack", "collision", "fallback", "violation"})
"""Terms of the flight's loss whose weights a monitor may raise."""


@dataclass(frozen=True)
class Scales:
    """Factors on blend, weights of :data:`PENALTY_TERMS` and learning rates by which a monitor makes updates more
    cautious than their stage; all 1 unless training was rolled back."""

    blend: float = 1.0
    penalty: float = 1.0
    learning_rate: float = 1.0


@struct.dataclass
class Conditions:
    """Settings of a curriculum stage as arrays, so that one compiled update serves all stages of a horizon."""

    noise: Scalar
    """Largest observation noise [m, m/s]."""
    blend: Scalar
    augment: Scalar
    weights: minibatches.Weights
    penalty: Scalar | None = None
    learning_rate: Scalar | None = None
    """Factors of :class:`Scales`; None without a monitor."""
    density: Scalar | None = None
    """Fraction of the obstacles that remain; None if no stage removes any."""
    teacher: PolicyParams | None = None
    """The parent's policy, if the curriculum regularises towards it."""


@struct.dataclass
class SafetyState:
    """The training state: what resuming needs."""

    policy: PolicyParams
    barrier: BarrierParams
    policy_optimiser: optax.OptState
    barrier_optimiser: optax.OptState
    step: Scalar
    skipped: Scalar
    """Updates skipped because a loss or a gradient was not finite."""
    averages: Averages | None = None
    replay: ReplayBuffer | None = None


Aux = tuple[dict[str, Scalar], minibatches.Minibatches]
"""Auxiliary outputs of the loss: metrics, and the minibatches of the barrier's further steps."""


def scale_penalties(terms: Mapping[str, Scalar], penalty: Scalar | None) -> dict[str, Scalar]:
    """Loss terms with those of :data:`PENALTY_TERMS` times ``penalty``; unchanged for None."""
    if penalty is None:
        return dict(terms)
    return {name: penalty * term if name in PENALTY_TERMS else term for name, term in terms.items()}


def make_trained_pilot(system: SystemConfig, settings: SafetySettings) -> Pilot:
    """The controller that is trained and measured: the policy behind the filter, or alone."""
    filtered = settings.curriculum.learning.filtered
    return make_filtered_pilot(system) if filtered else make_unfiltered_pilot(system)


def make_safety_terms(
    system: SystemConfig, settings: SafetySettings, horizon: int
) -> Callable[..., tuple[dict[str, Scalar], Aux]]:
    """Function (networks, conditions, margin [m], key, replay buffer) -> (weighted loss terms times batch size, aux).

    Scaled by the batch, so that ``physics.gradient_limit`` means the same for every batch size. ``loss/*`` are the
    flight's terms as weighted, the others unweighted, since curricula change the weights; ``loss/total`` is the sum.
    """
    flown = training_view(system)
    rollout = make_rollout(flown, make_trained_pilot(flown, settings), horizon, rematerialise=True)
    flight_loss = make_flight_loss(system, filtered=settings.curriculum.learning.filtered)
    anchor_loss = make_anchor_loss(system, settings.curriculum)
    count = scene_count(settings.batch, drones_at_once(system, settings.scenes))
    sample_scenes = make_batch_sampler(system, settings.scenes, count)
    families, strata = families_beside(settings.scenes), settings.curriculum.learning.strata
    sample_states = make_sampled_batch(system, families, BARRIER_BATCH, strata)
    draw = minibatches.make_minibatches(system, settings, BARRIER_BATCH, sample_states)
    losses = minibatches.make_minibatch_losses(system, settings)

    def terms(networks: Networks, conditions: Conditions, margin: Scalar, key: jax.Array, replay: ReplayBuffer | None):
        scene_key, flight_key, noise_key, flown_key, state_key = jax.random.split(key, 5)
        scenes = shard_batch(sample_scenes(scene_key, conditions.augment, conditions.density))
        keys = jax.random.split(flight_key, count)
        noise = conditions.noise * jax.random.uniform(noise_key, (count,))
        barrier = scale_gradient(networks["barrier"], settings.barrier_task_gradient)
        controller = ControllerParams(policy=networks["policy"], barrier=barrier, margin=margin, blend=conditions.blend)
        flights, scenes = flights_of_swarms(map_sharded(rollout, controller, scenes, noise, keys), scenes)
        flight = scale_penalties(jax.tree.map(jnp.mean, jax.vmap(flight_loss)(flights, scenes)), conditions.penalty)
        batch = jax.lax.stop_gradient(minibatches.Flights(trajectories=flights, scenes=scenes))  # data for the barrier
        drawn = draw(batch, replay, flown_key, state_key, jax.random.fold_in(key, 1))
        unweighted = anchor_loss(networks["policy"], conditions.teacher, flights.graphs)
        unweighted |= losses(networks["barrier"], drawn.first)
        parts = flight | minibatches.weighted(unweighted, conditions.weights)
        reported = flight | unweighted | {"total": sum(parts.values(), start=jnp.float32(0.0))}
        metrics = {f"loss/{name}": value for name, value in reported.items()} | filter_figures(flights)
        metrics |= quick_figures(flights, scenes, system)
        return {name: settings.batch * value for name, value in parts.items()}, (metrics, drawn)

    return terms


def make_safety_gradient(
    system: SystemConfig, settings: SafetySettings, horizon: int
) -> Callable[..., tuple[Networks, Aux]]:
    """Function (arguments of :func:`make_safety_terms`' function) -> (gradient of the mean over flights, aux)."""
    terms = make_safety_terms(system, settings, horizon)
    kinds: dict[str, tuple[Callable, Callable]] = {
        "sum": (lambda parts: sum(parts.values(), start=jnp.float32(0.0)), partial(jax.grad, has_aux=True)),
        "mgda": (split_objectives, lambda loss: partial(balanced_gradient, loss)),
    }
    combine, gradient_of = kinds[settings.curriculum.learning.balance]

    def mean_gradient(networks: Networks, *given) -> tuple[Networks, Aux]:
        def loss(networks: Networks):
            parts, aux = terms(networks, *given)
            return combine(parts), aux

        gradient, (metrics, drawn), *share = gradient_of(loss)(networks)
        metrics |= dict(zip(("balance/efficiency",), share, strict=False))
        return jax.tree.map(lambda leaf: leaf / settings.batch, gradient), (metrics, drawn)

    return mean_gradient


def make_policy_freeze(steps: int) -> Callable[[SafetyState, SafetyState], SafetyState]:
    """Function (state, updated state) -> updated state, with the policy of ``state`` in the first ``steps`` updates.
    Its optimiser state is frozen too, so moments and learning-rate schedule start with the policy."""

    def freeze(state: SafetyState, updated: SafetyState) -> SafetyState:
        new, old = (updated.policy, updated.policy_optimiser), (state.policy, state.policy_optimiser)
        policy, optimiser = jax.tree.map(lambda new, old: jnp.where(state.step >= steps, new, old), new, old)
        return updated.replace(policy=policy, policy_optimiser=optimiser)

    return freeze if steps else lambda state, updated: updated


def make_safety_update(
    system: SystemConfig, settings: SafetySettings, horizon: int, optimisers: Optimisers
) -> Callable[[SafetyState, Conditions, Scalar, jax.Array], tuple[SafetyState, dict[str, Scalar]]]:
    """Function (state, conditions, margin [m], root key) -> (state, metrics): one update of both networks, each by its
    own optimiser; the barrier takes ``learning.barrier_updates`` steps."""
    gradient_of = make_safety_gradient(system, settings, horizon)
    freeze = make_policy_freeze(settings.curriculum.learning.freeze_steps)
    average = make_averaging(settings.curriculum.learning.ema)
    losses = minibatches.make_minibatch_losses(system, settings)
    barrier_steps = minibatches.make_barrier_steps(losses, optimisers.barrier)

    def update(state: SafetyState, conditions: Conditions, margin: Scalar, root: jax.Array):
        key = jax.random.fold_in(root, state.step)
        networks = {"policy": state.policy, "barrier": state.barrier}
        gradient, (metrics, drawn) = gradient_of(networks, conditions, margin, key, state.replay)
        rate, slope = conditions.learning_rate, gradient["policy"]
        change, policy_optimiser = optimisers.policy.update(slope, state.policy_optimiser, state.policy)
        before = state.barrier, state.barrier_optimiser
        stepped, further = barrier_steps(before, gradient["barrier"], drawn.further, conditions.weights, rate)
        replay = None if state.replay is None or drawn.fresh is None else keep_worst(state.replay, drawn.fresh)
        updated = state.replace(
            policy=optax.apply_updates(state.policy, minibatches.scale_changes(change, rate)),
            barrier=stepped[0],
            policy_optimiser=policy_optimiser,
            barrier_optimiser=stepped[1],
            step=state.step + 1,
            replay=replay,
        )
        metrics |= replay_metrics(replay) | further
        metrics |= {f"curriculum/{name}": getattr(conditions, name) for name in ("noise", "blend", "augment")}
        metrics |= {} if conditions.density is None else {"curriculum/density": conditions.density}
        metrics |= health_metrics({"policy": gradient["policy"], "cbf": gradient["barrier"]})
        updated, metrics = skip_if_nonfinite(state, average(freeze(state, updated)), metrics)
        return replicate(updated), metrics

    return update


def conditions_of(curriculum: Curriculum, stage: Stage, scales: Scales | None = None) -> Conditions:
    """Settings of one of the curriculum's stages as arrays, scaled by the factors of a monitor, if any."""
    weights, density = curriculum.weights_in(stage), curriculum.density_in(stage)
    return Conditions(
        noise=jnp.float32(stage.noise),
        blend=jnp.float32(stage.blend * scales.blend if scales else stage.blend),
        augment=jnp.float32(stage.augment),
        density=None if density is None else jnp.float32(density),
        weights={name: jnp.float32(weights[name]) for name in sorted(curriculum.weights_used)},
        penalty=jnp.float32(scales.penalty) if scales else None,
        learning_rate=jnp.float32(scales.learning_rate) if scales else None,
    )
