"""Flights worth learning from again: the worst of those flown lately, kept whole."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from drone_cbf.arrays import Scalar
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.physics.drone import initial_state
from drone_cbf.training.data.batches import make_batch_sampler
from drone_cbf.training.data.flown_states import FlownStates, Picked, pick
from drone_cbf.training.data.labels import Labels

CLOSE = 0.5
"""A flight that keeps farther than this from every surface [m] and uses no slack is not kept: nothing was hard in
it."""
COLLISION = 1.0
"""What a collision counts for [m of clearance]: any is worse than every flight without one or slack ..."""
SLACK = 1.0
"""... and the largest slack [m of clearance per m/s]."""
MEMORY = 100.0
"""Updates after which a kept flight counts 1/e of what it did: the policy that flew it is gone by then."""


@struct.dataclass
class KeptFlights:
    """Fixed room for f flights of up to t steps, in the training state. Some 60 t bytes a flight, and its scene."""

    flown: FlownStates
    lengths: Int[Array, "f"]
    """Steps that were flown; what lies beyond in ``flown`` is padding."""
    scores: Float[Array, "f"]
    """How bad the flight was [m], less with age; 0: the place is empty."""


def flight_scores(clearances: Float[Array, "f"], slacks: Float[Array, "f"]) -> Float[Array, "f"]:
    """How bad each flight was [m], given its smallest clearance [m] and its largest slack [m/s].

    Zero for a flight whose figures are not finite: kept, it would make every later update so.
    """
    scores = jax.nn.relu(CLOSE - clearances) + COLLISION * (clearances < 0.0) + SLACK * slacks
    return jnp.where(jnp.isfinite(scores), scores, 0.0)


def candidates(
    flown: FlownStates, clearances: Float[Array, "f"], slacks: Float[Array, "f"], longest: int
) -> KeptFlights:
    """Fresh flights, with their smallest clearance [m] and largest slack [m/s], padded to ``longest`` steps."""
    horizon = flown.labels.safe.shape[1]

    def padded(leaf: Array) -> Array:
        return jnp.pad(leaf, ((0, 0), (0, longest - horizon), *((0, 0) for _ in leaf.shape[2:])))

    return KeptFlights(
        flown=flown.replace(states=jax.tree.map(padded, flown.states), labels=jax.tree.map(padded, flown.labels)),
        lengths=jnp.full(clearances.shape, horizon, jnp.int32),
        scores=flight_scores(clearances, slacks),
    )


def empty_buffer(system: SystemConfig, families: Sequence[SceneName], places: int, longest: int) -> KeptFlights:
    """Room for ``places`` flights of up to ``longest`` steps in scenes of ``families``; no place is taken."""
    zero = jnp.zeros(3)
    state = jax.eval_shape(lambda: initial_state(zero, zero, system.physics))
    scenes = jax.eval_shape(make_batch_sampler(system, families, places), jax.random.key(0), 0.0)
    labels = Labels(safe=jnp.zeros((places, longest), bool), unsafe=jnp.zeros((places, longest), bool))
    flown = FlownStates(
        states=jax.tree.map(lambda leaf: jnp.zeros((places, longest + 1, *leaf.shape), leaf.dtype), state),
        scenes=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), scenes),
        labels=labels,
    )
    return KeptFlights(flown=flown, lengths=jnp.zeros(places, jnp.int32), scores=jnp.zeros(places))


def keep_worst(kept: KeptFlights, fresh: KeptFlights) -> KeptFlights:
    """The worst of the kept flights, an update older now, and of the fresh ones; as many as there are places."""
    places = kept.scores.shape[0]
    kept = kept.replace(scores=kept.scores * jnp.exp(-1.0 / MEMORY))
    everything = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), kept, fresh)
    _, worst = jax.lax.top_k(everything.scores, places)
    return jax.tree.map(lambda leaf: leaf[worst], everything)


def draw_steps(kept: KeptFlights, count: int, key: jax.Array) -> tuple[Picked, Scalar]:
    """``count`` steps, evenly from all that were flown in kept flights, and whether there are any.

    Where there are none, what is picked is padding.
    """
    longest = kept.flown.labels.safe.shape[1]
    steps = jnp.where(kept.scores > 0.0, kept.lengths, 0)
    ends = jnp.cumsum(steps)
    drawn = jax.random.randint(key, (count,), 0, jnp.maximum(ends[-1], 1))
    flights = jnp.minimum(jnp.searchsorted(ends, drawn, side="right"), steps.shape[0] - 1)
    within = jnp.clip(drawn - (ends - steps)[flights], 0, longest - 1)
    return pick(kept.flown, flights, within), ends[-1] > 0


def replay_figures(kept: KeptFlights | None) -> dict[str, Scalar]:
    """How many flights are kept, and the mean of their scores [m]; nothing where none are."""
    if kept is None:
        return {}
    count = jnp.sum(kept.scores > 0.0)
    return {"replay/flights": count, "replay/score": jnp.sum(kept.scores) / jnp.maximum(count, 1)}
