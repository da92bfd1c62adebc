"""Replay buffer of whole flights: the worst of the recent ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from drone_cbf.arrays import Scalar, concatenate_trees
from drone_cbf.config import SystemConfig
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.scenes.scene import per_drone
from drone_cbf.training.data.flights import drones_at_once, make_batch_sampler
from drone_cbf.training.data.flown_states import FlownStates, Labels, SampledSteps, take_steps
from drone_cbf.training.settings import SafetySettings

CLOSE = 0.5
"""Flights that stay farther than this from every surface [m] and use no slack are not stored."""
COLLISION = 1.0
"""Score of a collision [m of clearance]: worse than any flight without collision and slack."""
SLACK = 1.0
"""Score of the largest slack [m of clearance per m/s]."""
MEMORY = 100.0
"""Updates after which the score of a stored flight has decayed to 1/e, since the policy has changed by then."""


@struct.dataclass
class ReplayBuffer:
    """f slots for flights of up to t steps, part of the training state; about 60 t bytes per flight, plus its scene."""

    flown: FlownStates
    lengths: Int[Array, "f"]
    """Steps flown; the rest of ``flown`` is padding."""
    scores: Float[Array, "f"]
    """How bad each flight was [m], decaying with age; 0: empty slot."""


def flight_scores(clearances: Float[Array, "f"], slacks: Float[Array, "f"]) -> Float[Array, "f"]:
    """Score of each flight [m] from its smallest clearance [m] and largest slack [m/s]; zero if that is not finite:
    stored, such a flight would make every later update non-finite."""
    scores = jax.nn.relu(CLOSE - clearances) + COLLISION * (clearances < 0.0) + SLACK * slacks
    return jnp.where(jnp.isfinite(scores), scores, 0.0)


def replay_entries(
    flown: FlownStates, clearances: Float[Array, "f"], slacks: Float[Array, "f"], longest: int
) -> ReplayBuffer:
    """Fresh flights, with their smallest clearance [m] and largest slack [m/s], padded to ``longest`` steps."""
    horizon = flown.labels.safe.shape[1]

    def padded(leaf: Array) -> Array:
        return jnp.pad(leaf, ((0, 0), (0, longest - horizon), *((0, 0) for _ in leaf.shape[2:])))

    return ReplayBuffer(
        flown=flown.replace(states=jax.tree.map(padded, flown.states), labels=jax.tree.map(padded, flown.labels)),
        lengths=jnp.full(clearances.shape, horizon, jnp.int32),
        scores=flight_scores(clearances, slacks),
    )


def initial_replay_buffer(system: SystemConfig, settings: SafetySettings) -> ReplayBuffer | None:
    """An empty buffer whose slots fit the flights of every stage; None if the curriculum does not replay."""
    if not settings.curriculum.learning.replay:
        return None
    places, zero = settings.curriculum.learning.replay_flights, jnp.zeros(3)
    longest = max(stage.horizon for stage in settings.curriculum.stages)
    state = jax.eval_shape(lambda: make_dynamics(system.physics).initial(zero, zero))
    sample = make_batch_sampler(system, settings.scenes, -(-places // drones_at_once(system, settings.scenes)))
    scenes = jax.eval_shape(lambda key: per_drone(sample(key, 0.0)), jax.random.key(0))
    flown = FlownStates(
        states=jax.tree.map(lambda leaf: jnp.zeros((places, longest + 1, *leaf.shape), leaf.dtype), state),
        scenes=jax.tree.map(lambda leaf: jnp.zeros((places, *leaf.shape[1:]), leaf.dtype), scenes),
        labels=Labels(safe=jnp.zeros((places, longest), bool), unsafe=jnp.zeros((places, longest), bool)),
    )
    return ReplayBuffer(flown=flown, lengths=jnp.zeros(places, jnp.int32), scores=jnp.zeros(places))


def keep_worst(buffer: ReplayBuffer, fresh: ReplayBuffer) -> ReplayBuffer:
    """The buffer after one update: the worst of the stored flights, whose scores decay, and of the fresh ones."""
    buffer = buffer.replace(scores=buffer.scores * jnp.exp(-1.0 / MEMORY))
    everything = concatenate_trees(buffer, fresh)
    _, worst = jax.lax.top_k(everything.scores, buffer.scores.shape[0])
    return jax.tree.map(lambda leaf: leaf[worst], everything)


def sample_steps(buffer: ReplayBuffer, count: int, key: jax.Array) -> tuple[SampledSteps, Scalar]:
    """``count`` steps sampled uniformly from the stored flights, and whether there are any; else they are padding."""
    longest = buffer.flown.labels.safe.shape[1]
    steps = jnp.where(buffer.scores > 0.0, buffer.lengths, 0)
    ends = jnp.cumsum(steps)
    drawn = jax.random.randint(key, (count,), 0, jnp.maximum(ends[-1], 1))
    flights = jnp.minimum(jnp.searchsorted(ends, drawn, side="right"), steps.shape[0] - 1)
    within = jnp.clip(drawn - (ends - steps)[flights], 0, longest - 1)
    return take_steps(buffer.flown, flights, within), ends[-1] > 0


def replay_metrics(buffer: ReplayBuffer | None) -> dict[str, Scalar]:
    """Number of stored flights and their mean score [m]; empty without a buffer."""
    if buffer is None:
        return {}
    count = jnp.sum(buffer.scores > 0.0)
    return {"replay/flights": count, "replay/score": jnp.sum(buffer.scores) / jnp.maximum(count, 1)}
