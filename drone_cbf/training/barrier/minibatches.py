"""What the barrier learns from in an update: states just flown, states of kept flights, and sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, concatenate_trees
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import shard_batch
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.perception.graphs import Graph
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory
from drone_cbf.training.barrier.gcbf_losses import Moments, make_barrier_losses, make_moments
from drone_cbf.training.barrier.sobolev import make_sobolev_loss
from drone_cbf.training.data.flown_states import FlownStates, make_record, pick
from drone_cbf.training.data.labels import check_look_ahead
from drone_cbf.training.data.replay_buffer import KeptFlights, candidates, draw_steps
from drone_cbf.training.settings import SafetySettings

Weights = dict[str, Scalar]
"""By name, of the losses with one in some stage (:class:`~drone_cbf.training.curriculum.mechanisms.LossWeights`)."""


@struct.dataclass
class Flights:
    """The flights of an update, without their gradient: data; leading axis f."""

    trajectories: Trajectory
    scenes: Scene


@struct.dataclass
class Minibatch:
    """What the barrier learns from in one step."""

    moments: Moments
    """At flown states."""
    sampled: Graph | None
    """More states, about which the teacher is asked as well; None where no loss asks it."""


@struct.dataclass
class Minibatches:
    """What the barrier learns from in one update."""

    first: Minibatch
    """In the step that it takes together with the policy."""
    further: Minibatch | None
    """In those that it takes alone, on a leading axis; None where there are none."""
    fresh: KeptFlights | None
    """The flights, as candidates to be kept; None where none are."""


MinibatchLosses = Callable[[BarrierParams, Minibatch], dict[str, Scalar]]
"""(barrier, minibatch) -> losses by name."""


def make_minibatches(
    system: SystemConfig, settings: SafetySettings, count: int, sample_states: Callable[[jax.Array], Graph]
) -> Callable[[Flights, KeptFlights | None, jax.Array, jax.Array, jax.Array], Minibatches]:
    """Function (flights, kept flights, keys of visited, of sampled and of all further states) -> minibatches.

    Each is on ``count`` flown states, a fraction ``learning.replay`` of them from kept flights, and on sampled ones.
    All are drawn at once, before the first step: none depends on the barrier, and the flights are read one time.

    Raises:
        ConfigError: ``cbf_safe`` has a weight in a stage whose flights are too short to call a state safe.
    """
    check_look_ahead(system, settings)
    learning = settings.curriculum.learning
    record, draw = make_record(system, learning.look_ahead), make_state_picker(system, settings, count)
    is_taught = uses_teacher(settings)

    def minibatches(
        flights: Flights, kept: KeptFlights | None, visit_key: jax.Array, state_key: jax.Array, further_key: jax.Array
    ) -> Minibatches:
        flown = record(flights.trajectories, flights.scenes)

        def minibatch(visit_key: jax.Array, state_key: jax.Array) -> Minibatch:
            sampled = shard_batch(sample_states(state_key)) if is_taught else None
            return Minibatch(moments=draw(flown, flights, kept, visit_key), sampled=sampled)

        keys = jax.vmap(jax.random.split)(jax.random.split(further_key, learning.barrier_updates - 1))
        return Minibatches(
            first=minibatch(visit_key, state_key),
            further=jax.vmap(minibatch)(keys[:, 0], keys[:, 1]) if keys.size else None,
            fresh=None if kept is None else replay_candidates(flown, flights, kept, system),
        )

    return minibatches


def make_minibatch_losses(system: SystemConfig, settings: SafetySettings) -> MinibatchLosses:
    """The losses, without their weights, so that charts of different curricula compare.

    The teacher (``cbf_value``, ``cbf_gradient``) is asked about all states, the losses of GCBF+ are about the flown
    ones. The former are left out where no stage gives them a weight. The latter are always reported: without a gradient
    they are three evaluations of the network.
    """
    taught = make_sobolev_loss(system) if uses_teacher(settings) else None
    own = make_barrier_losses(system, settings.curriculum.learning.epsilon)

    def losses(params: BarrierParams, minibatch: Minibatch) -> dict[str, Scalar]:
        values = own(params, minibatch.moments)
        if taught:
            values = taught(params, shard_batch(concatenate_trees(minibatch.moments.seen, minibatch.sampled))) | values
        return values

    return losses


def uses_teacher(settings: SafetySettings) -> bool:
    """Whether some stage weights a loss against the analytic barrier."""
    return bool(settings.curriculum.weights_used & {"cbf_value", "cbf_gradient"})


def weighted(values: Mapping[str, Scalar], weights: Weights) -> dict[str, Scalar]:
    """Terms of the loss: those among ``values`` that have a weight, times it."""
    return {name: weights[name] * value for name, value in values.items() if name in weights}


def make_state_picker(
    system: SystemConfig, settings: SafetySettings, count: int
) -> Callable[[FlownStates, Flights, KeptFlights | None, jax.Array], Moments]:
    """Function that picks ``count`` flown states at random, the last ones from kept flights once there are any."""
    moments = make_moments(system)
    replayed = round(settings.curriculum.learning.replay * count)

    def draw(flown: FlownStates, flights: Flights, kept: KeptFlights | None, key: jax.Array) -> Moments:
        total, horizon = flown.labels.safe.shape
        flight, step = jnp.divmod(jax.random.randint(key, (count,), 0, total * horizon), horizon)
        seen = jax.tree.map(lambda leaf: leaf[flight, step], flights.trajectories.graphs)
        visited = moments(pick(flown, flight, step), seen)
        if kept is None:
            return visited
        picked, some = draw_steps(kept, replayed, jax.random.fold_in(key, 1))
        stay = count - replayed

        def replace_last(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.concatenate([new[:stay], jnp.where(some, old, new[stay:])])

        return jax.tree.map(replace_last, visited, moments(picked, None))

    return draw


def replay_candidates(flown: FlownStates, flights: Flights, kept: KeptFlights, system: SystemConfig) -> KeptFlights:
    """The update's flights, scored, in the shape of the kept ones."""

    def smallest(trajectory: Trajectory, scene: Scene) -> Scalar:
        return jnp.min(swept_clearances(trajectory, scene, system.physics))

    clearances = jax.vmap(smallest)(flights.trajectories, flights.scenes)
    slacks = jnp.max(flights.trajectories.decisions.slack, axis=-1)
    return candidates(flown, clearances, slacks, longest=kept.flown.labels.safe.shape[1])
