"""What the barrier learns from in an update: states just flown, states of kept flights, and sampled ones."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from drone_cbf.arrays import Scalar, in_one, joined
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SystemConfig
from drone_cbf.devices import spread
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.perception.graphs import Graph
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory
from drone_cbf.training.adaptation import slowed
from drone_cbf.training.barrier_losses import Moments, make_barrier_losses, make_moments
from drone_cbf.training.flown_states import FlownStates, make_record, pick
from drone_cbf.training.labels import check_look_ahead
from drone_cbf.training.replay_buffer import KeptFlights, candidates, draw_steps
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.sobolev import make_sobolev_loss

Weights = dict[str, Scalar]
"""Of the losses, by name (:class:`drone_cbf.training.mechanisms.LossWeights`)."""


@struct.dataclass
class Flights:
    """The flights of an update, without their gradient: data; leading axis f."""

    trajectories: Trajectory
    scenes: Scene


@struct.dataclass
class Lesson:
    """What one update teaches the barrier."""

    terms: dict[str, Scalar]
    """Weighted, of the losses that have a weight in some stage."""
    values: dict[str, Scalar]
    """Without their weights, so that charts of different curricula compare; of losses without a weight too."""
    fresh: KeptFlights | None
    """The flights, as candidates to be kept; None where none are."""


Lessons = Callable[[BarrierParams, Weights, Flights, KeptFlights | None, jax.Array, jax.Array], Lesson]
"""(barrier, weights, flights, kept flights, key of visited states, key of sampled ones) -> lesson."""


def make_lessons(
    system: SystemConfig, settings: SafetySettings, count: int, sample_states: Callable[[jax.Array], Graph]
) -> Lessons:
    """Lessons on ``count`` flown states, a fraction ``learning.replay`` of them from kept flights, and on sampled ones.

    The teacher (``cbf_value``, ``cbf_gradient``) is asked about all of them, the losses of GCBF+ are about the flown
    ones. The former are left out where no stage gives them a weight. The latter are always reported: without a gradient
    they are three evaluations of the network.

    Raises:
        ConfigError: ``cbf_safe`` has a weight in a stage whose flights are too short to call a state safe.
    """
    check_look_ahead(system, settings)
    learning = settings.curriculum.learning
    used = settings.curriculum.weights_used
    taught = make_sobolev_loss(system) if used & {"cbf_value", "cbf_gradient"} else None
    own = make_barrier_losses(system, learning.epsilon)
    record, draw = make_record(system, learning.look_ahead), make_draw(system, settings, count)

    def lessons(
        params: BarrierParams,
        weights: Weights,
        flights: Flights,
        kept: KeptFlights | None,
        visit_key: jax.Array,
        state_key: jax.Array,
    ) -> Lesson:
        flown = record(flights.trajectories, flights.scenes)
        moments = draw(flown, flights, kept, visit_key)
        values = own(params, moments)
        if taught:
            states = joined(moments.seen, sample_states(state_key))
            values = taught(params, spread(states)) | values
        terms = {name: weights[name] * value for name, value in values.items() if name in used}
        fresh = None if kept is None else as_candidates(flown, flights, kept, system)
        return Lesson(terms=terms, values=values, fresh=fresh)

    return lessons


def make_further_steps(
    lessons: Lessons, optimiser: optax.GradientTransformation, count: int
) -> Callable[..., tuple[BarrierParams, optax.OptState, Scalar]]:
    """``count`` steps of the barrier alone, each on other states of the same flights (and of kept and sampled ones).

    Function (barrier, its optimiser's state, weights, flights, kept flights, factor on the changes, key) -> (barrier,
    optimiser's state, number of entries of all gradients that are not finite).
    """

    def further(
        barrier: BarrierParams,
        optimiser_state: optax.OptState,
        weights: Weights,
        flights: Flights,
        kept: KeptFlights | None,
        rate: Scalar | None,
        key: jax.Array,
    ) -> tuple[BarrierParams, optax.OptState, Scalar]:
        def loss(barrier: BarrierParams, key: jax.Array) -> Scalar:
            terms = lessons(barrier, weights, flights, kept, *jax.random.split(key)).terms
            return sum(terms.values(), start=jnp.float32(0.0))

        def step(carry: tuple[BarrierParams, optax.OptState], key: jax.Array):
            barrier, optimiser_state = carry
            gradient = jax.grad(loss)(barrier, key)
            change, optimiser_state = optimiser.update(gradient, optimiser_state, barrier)
            bad = jnp.sum(~jnp.isfinite(in_one(gradient)))
            return (optax.apply_updates(barrier, slowed(change, rate)), optimiser_state), bad

        (barrier, optimiser_state), bad = jax.lax.scan(step, (barrier, optimiser_state), jax.random.split(key, count))
        return barrier, optimiser_state, jnp.sum(bad).astype(jnp.float32)

    return further


def make_draw(
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


def as_candidates(flown: FlownStates, flights: Flights, kept: KeptFlights, system: SystemConfig) -> KeptFlights:
    """The update's flights, scored, in the shape of the kept ones."""

    def smallest(trajectory: Trajectory, scene: Scene) -> Scalar:
        return jnp.min(swept_clearances(trajectory, scene, system.physics))

    clearances = jax.vmap(smallest)(flights.trajectories, flights.scenes)
    slacks = jnp.max(flights.trajectories.decisions.slack, axis=-1)
    return candidates(flown, clearances, slacks, longest=kept.flown.labels.safe.shape[1])
