"""Kept flights: the worst, for a while, and only steps that were flown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.training.curriculum.mechanisms import Learning
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.data.flown_states import FlownStates, Labels
from drone_cbf.training.data.replay_buffer import (
    CLOSE,
    COLLISION,
    MEMORY,
    ReplayBuffer,
    flight_scores,
    initial_replay_buffer,
    keep_worst,
    replay_entries,
    replay_metrics,
    sample_steps,
)
from drone_cbf.training.settings import SafetySettings
from tests.perception.worlds import few_obstacles, small_system

SYSTEM = small_system(scene=few_obstacles(3))
PLACES, LONGEST = 4, 6
keep, draw = jax.jit(keep_worst), jax.jit(sample_steps, static_argnums=1)
STAGE = Stage(name="only", steps=1, horizon=LONGEST)
REPLAYING = Curriculum(name="replay", learning=Learning(replay=0.5, replay_flights=PLACES), stages=(STAGE,))
EMPTY = initial_replay_buffer(SYSTEM, SafetySettings(curriculum=REPLAYING, scenes=("random_cloud",)))


def fresh(clearances, horizon=LONGEST, mark=0.0, slacks=None):
    """Flights that are known by their states: 1000 times their place from ``mark`` on, plus the step."""
    count = len(clearances)
    marks = 1000.0 * (mark + np.arange(count, dtype=np.float32))[:, None] + np.arange(horizon + 1, dtype=np.float32)

    def marked(leaf):
        return jnp.broadcast_to(
            marks.reshape(count, horizon + 1, *(1,) * (leaf.ndim - 2)), (count, horizon + 1, *leaf.shape[2:])
        )

    flown = FlownStates(
        states=jax.tree.map(marked, EMPTY.flown.states),
        scenes=jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), EMPTY.flown.scenes),
        labels=Labels(safe=jnp.ones((count, horizon), bool), unsafe=jnp.zeros((count, horizon), bool)),
    )
    slacks = jnp.zeros(count) if slacks is None else jnp.asarray(slacks)
    return replay_entries(flown, jnp.asarray(clearances, jnp.float32), slacks, LONGEST)


def who(kept):
    """Marks of the flights that are kept."""
    taken = np.asarray(kept.scores) > 0.0
    return sorted((np.asarray(kept.flown.states.position)[taken, 0, 0] // 1000).astype(int).tolist())


def test_a_score_counts_nearness_collision_and_slack():
    scores = flight_scores(jnp.array([1.0, CLOSE, 0.1, -0.2, 1.0, jnp.nan]), jnp.array([0.0, 0.0, 0.0, 0.0, 0.3, 0.0]))
    np.testing.assert_allclose(scores, [0.0, 0.0, 0.4, 0.7 + COLLISION, 0.3, 0.0], rtol=1e-6)


def test_the_worst_flights_are_kept_and_other_slots_stay_empty():
    assert who(EMPTY) == [] and replay_metrics(EMPTY)["replay/flights"] == 0
    kept = keep(EMPTY, fresh([0.3, 2.0, 0.1]))
    assert who(kept) == [0, 2], "a flight far from everything is not kept"
    clearances = np.array([0.2, -0.1, 0.45, 0.05, 0.4])
    kept = keep(kept, fresh(clearances, mark=10))
    assert who(kept) == [2, 10, 11, 13]
    assert replay_metrics(kept)["replay/flights"] == PLACES
    expected = np.mean([0.4 * np.exp(-1.0 / MEMORY), 0.3, 0.6 + COLLISION, 0.45])
    assert float(replay_metrics(kept)["replay/score"]) == pytest.approx(expected, rel=1e-5)


def test_an_old_collision_makes_room_for_a_recent_near_miss():
    kept = keep(EMPTY, fresh([-0.1] * PLACES))
    near = fresh([0.3], mark=50)
    # 1.6 falls below 0.2 after MEMORY ln 8 updates.
    for update in range(1, 400):  # noqa: B007  (asserted on below)
        kept = keep(kept, near)
        if 50 in who(kept):
            break
    assert update == pytest.approx(MEMORY * np.log(8.0), abs=1.0)


def test_a_flight_with_nonfinite_metrics_is_never_stored():
    assert who(keep(EMPTY, fresh([np.nan, 0.1], slacks=[0.0, np.inf]))) == []


def test_steps_are_sampled_uniformly_and_never_from_padding():
    kept = keep(keep(EMPTY, fresh([0.1, 0.2], horizon=2, mark=1)), fresh([0.3], mark=5))
    picked, some = draw(kept, 20_000, jax.random.key(0))
    marks = np.asarray(picked.states.position)[:, 0]
    flown = [1000, 1001, 2000, 2001, *range(5000, 5000 + LONGEST)]
    found, counts = np.unique(marks, return_counts=True)
    assert bool(some) and found.tolist() == flown
    # Binomial: five standard deviations of a tenth of the draws.
    assert np.abs(counts - 2000.0).max() < 5.0 * np.sqrt(2000.0 * 0.9)
    np.testing.assert_array_equal(np.asarray(picked.successors.velocity)[:, 1], marks + 1.0)
    np.testing.assert_array_equal(picked.steps, marks % 1000)
    assert picked.labels.safe.all()


def test_sampling_from_an_empty_buffer_reports_that_it_is_empty():
    picked, some = draw(EMPTY, 3, jax.random.key(0))
    assert not bool(some) and picked.steps.shape == (3,)


def test_every_stage_keeps_flights_in_one_shape():
    short, long = fresh([0.1], horizon=2), fresh([0.1])
    assert jax.tree.map(jnp.shape, short) == jax.tree.map(jnp.shape, long)
    assert short.lengths.tolist() == [2] and isinstance(short, ReplayBuffer)
