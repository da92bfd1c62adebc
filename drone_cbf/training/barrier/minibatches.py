"""Minibatches of the barrier (flown, replayed and sampled states), and its gradient steps on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, Tree, concatenate_trees, ravel_leaves
from drone_cbf.barrier.lessons import Lesson, uses_truth
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import shard_batch
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.rollout import Trajectory
from drone_cbf.scenes.scene import Scene
from drone_cbf.training.barrier.losses import Transitions, make_barrier_losses, make_sobolev_loss, make_transitions
from drone_cbf.training.data.flown_states import FlownStates, check_look_ahead, make_flown_states, take_steps
from drone_cbf.training.data.replay_buffer import ReplayBuffer, replay_entries, sample_steps
from drone_cbf.training.settings import SafetySettings

Weights = dict[str, Scalar]
"""Loss name -> weight, for the losses that some stage uses
(:class:`~drone_cbf.training.curriculum.mechanisms.LossWeights`)."""


@struct.dataclass
class Flights:
    """The flights of an update, without gradient; leading axis f."""

    trajectories: Trajectory
    scenes: Scene


@struct.dataclass
class Minibatch:
    """Data of one gradient step of the barrier."""

    transitions: Transitions
    sampled: Lesson | None
    """Further states for the teacher's losses; None if no stage uses those."""


@struct.dataclass
class Minibatches:
    """Data of all barrier steps in one update: ``first`` for the one taken jointly with the policy, ``further`` for the
    others, if any (leading axis); and, with replay, the update's flights as replay entries."""

    first: Minibatch
    further: Minibatch | None
    fresh: ReplayBuffer | None


MinibatchLosses = Callable[[BarrierParams, Minibatch], dict[str, Scalar]]
"""(barrier, minibatch) -> losses by name."""
BarrierTrainState = tuple[BarrierParams, optax.OptState]
"""Parameters and optimiser state."""


def make_minibatches(
    system: SystemConfig, settings: SafetySettings, count: int, sample_states: Callable[[jax.Array], Lesson]
) -> Callable[[Flights, ReplayBuffer | None, jax.Array, jax.Array, jax.Array], Minibatches]:
    """Function (flights, replay buffer, keys of flown, of sampled and of all further states) -> minibatches.

    Each has ``count`` flown states, of which the fraction ``learning.replay`` is replayed. All are drawn before the
    first step, since none depends on the barrier.

    Raises:
        ConfigError: ``cbf_safe`` has a weight in a stage whose flights are too short to label a state safe.
    """
    check_look_ahead(system, settings)
    learning = settings.curriculum.learning
    flown_states = make_flown_states(system, learning.look_ahead)
    sample_transitions = make_transition_sampler(system, settings, count)
    # Scanning random places costs more than flying: with a range sensor, all states are flown ones.
    samples = settings.curriculum.uses_teacher and not uses_truth(system)

    def minibatches(flights: Flights, replay: ReplayBuffer | None, flown_key, state_key, further_key) -> Minibatches:
        flown = flown_states(flights.trajectories, flights.scenes)

        def minibatch(flown_key: jax.Array, state_key: jax.Array) -> Minibatch:
            sampled = shard_batch(sample_states(state_key)) if samples else None
            return Minibatch(transitions=sample_transitions(flown, flights, replay, flown_key), sampled=sampled)

        keys = jax.vmap(jax.random.split)(jax.random.split(further_key, learning.barrier_updates - 1))
        return Minibatches(
            first=minibatch(flown_key, state_key),
            further=jax.vmap(minibatch)(keys[:, 0], keys[:, 1]) if keys.size else None,
            fresh=None if replay is None else scored_flights(flown, flights, replay, system),
        )

    return minibatches


def make_transition_sampler(
    system: SystemConfig, settings: SafetySettings, count: int
) -> Callable[[FlownStates, Flights, ReplayBuffer | None, jax.Array], Transitions]:
    """Function that samples ``count`` flown states uniformly; the last ones from the replay buffer unless empty."""
    make = make_transitions(system)
    replayed = round(settings.curriculum.learning.replay * count)
    kept = count - replayed

    def sample(flown: FlownStates, flights: Flights, replay: ReplayBuffer | None, key: jax.Array) -> Transitions:
        total, horizon = flown.labels.safe.shape
        flight, step = jnp.divmod(jax.random.randint(key, (count,), 0, total * horizon), horizon)
        observed = jax.tree.map(lambda leaf: leaf[flight, step], flights.trajectories.graphs)
        fresh = make(take_steps(flown, flight, step), observed)
        if replay is None:
            return fresh
        sampled, available = sample_steps(replay, replayed, jax.random.fold_in(key, 1))

        def replace_last(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.concatenate([new[:kept], jnp.where(available, old, new[kept:])])

        return jax.tree.map(replace_last, fresh, make(sampled, None))

    return sample


def scored_flights(flown: FlownStates, flights: Flights, replay: ReplayBuffer, system: SystemConfig) -> ReplayBuffer:
    """The update's flights as scored entries, padded to the flight length of ``replay``."""
    smallest = jax.vmap(lambda trajectory, scene: jnp.min(swept_clearances(trajectory, scene, system.physics)))
    clearances = smallest(flights.trajectories, flights.scenes)
    slacks = jnp.max(flights.trajectories.decisions.slack, axis=-1)
    return replay_entries(flown, clearances, slacks, longest=replay.flown.labels.safe.shape[1])


def make_minibatch_losses(system: SystemConfig, settings: SafetySettings) -> MinibatchLosses:
    """Unweighted losses, so that charts of different curricula are comparable. The teacher's (``cbf_value``,
    ``cbf_gradient``) use all states and are left out if no stage weights them. Those of GCBF+ use the flown states and
    are always reported: without gradients they are cheap."""
    teacher_losses = make_sobolev_loss(system) if settings.curriculum.uses_teacher else None
    gcbf_losses = make_barrier_losses(system, settings.curriculum.learning.epsilon)

    def losses(params: BarrierParams, minibatch: Minibatch) -> dict[str, Scalar]:
        values = gcbf_losses(params, minibatch.transitions)
        if teacher_losses is None:
            return values
        flown = minibatch.transitions.observed
        lessons = flown if minibatch.sampled is None else concatenate_trees(flown, minibatch.sampled)
        return teacher_losses(params, shard_batch(lessons)) | values

    return losses


def weighted(values: Mapping[str, Scalar], weights: Weights) -> dict[str, Scalar]:
    """Weighted loss terms; values without a weight are dropped."""
    return {name: weights[name] * value for name, value in values.items() if name in weights}


def scale_changes(change: Tree, learning_rate: Scalar | None) -> Tree:
    """An optimiser's parameter change times the learning-rate factor; unchanged for None."""
    return change if learning_rate is None else jax.tree.map(lambda leaf: learning_rate * leaf, change)


def make_barrier_steps(
    losses: MinibatchLosses, optimiser: optax.GradientTransformation
) -> Callable[..., tuple[BarrierTrainState, dict[str, Scalar]]]:
    """Function (train state, gradient of the joint loss, further minibatches or None, weights, learning-rate factor or
    None) -> (train state, metrics): a step along that gradient, then one on each further minibatch."""

    def loss(barrier: BarrierParams, minibatch: Minibatch, weights: Weights) -> Scalar:
        return sum(weighted(losses(barrier, minibatch), weights).values(), start=jnp.float32(0.0))

    def step(state: BarrierTrainState, gradient: BarrierParams, rate: Scalar | None) -> BarrierTrainState:
        barrier, optimiser_state = state
        change, optimiser_state = optimiser.update(gradient, optimiser_state, barrier)
        return optax.apply_updates(barrier, scale_changes(change, rate)), optimiser_state

    def steps(state: BarrierTrainState, gradient: BarrierParams, further: Minibatch | None, weights: Weights, rate):
        def further_step(state: BarrierTrainState, minibatch: Minibatch) -> tuple[BarrierTrainState, Scalar]:
            gradient = jax.grad(loss)(state[0], minibatch, weights)
            return step(state, gradient, rate), jnp.sum(~jnp.isfinite(ravel_leaves(gradient)))

        first = step(state, gradient, rate)
        if further is None:
            return first, {}
        last, nonfinite = jax.lax.scan(further_step, first, further)
        return last, {"grad_health/nonfinite_cbf_further": jnp.sum(nonfinite).astype(jnp.float32)}

    return steps
