"""A non-finite gradient or loss: the update is skipped, counted, stored, and past the limit the run fails."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from drone_cbf.arrays import tree_norm
from drone_cbf.config import OptimiserConfig
from drone_cbf.errors import TrainingError
from drone_cbf.recorder import ListRecorder
from drone_cbf.training.update.gradient_health import (
    check_health,
    health_metrics,
    nested,
    nonfinite_sources,
    skip_if_nonfinite,
)
from drone_cbf.training.update.optimisers import make_optimiser

TARGET = {"params": {"trunk": {"w": jnp.array([1.0, -2.0])}, "gains": {"w": jnp.array([0.5])}}}
OPTIMISER = make_optimiser(OptimiserConfig(learning_rate=0.1), 20)


@struct.dataclass
class State:
    policy: dict
    optimiser: optax.OptState
    step: jax.Array
    skipped: jax.Array


def start():
    policy = jax.tree.map(jnp.zeros_like, TARGET)
    return State(policy=policy, optimiser=OPTIMISER.init(policy), step=jnp.int32(0), skipped=jnp.int32(0))


@functools.partial(jax.jit, static_argnames="spoils")
def update(state, bad, root, spoils="gradient"):
    """Regression on ``TARGET``, noise drawn anew at every step; ``bad`` [1 or NaN] spoils one module's gradient."""
    noise = 0.1 * jax.random.normal(jax.random.fold_in(root, state.step), (2,))

    def loss(policy):
        trunk, gains = policy["params"]["trunk"]["w"], policy["params"]["gains"]["w"]
        value = jnp.sum((trunk - TARGET["params"]["trunk"]["w"] + noise) ** 2) + jnp.sum((gains - 0.5) ** 2)
        # Without a gradient the loss alone is spoilt; with the value taken off again, only the gradient.
        spoilt = bad * gains[0]
        return value + (jax.lax.stop_gradient(bad) if spoils == "loss" else spoilt - jax.lax.stop_gradient(spoilt))

    value, gradient = jax.value_and_grad(loss)(state.policy)
    value = value if spoils == "loss" else jnp.where(jnp.isnan(value), 1.0, value)
    changes, optimiser = OPTIMISER.update(gradient, state.optimiser, state.policy)
    policy = optax.apply_updates(state.policy, changes)
    following = state.replace(policy=policy, optimiser=optimiser, step=state.step + 1)
    return skip_if_nonfinite(state, following, {"loss/total": value} | health_metrics({"policy": gradient}))


def train(bad_steps, steps=6, limit=3, state=None, spoils="gradient"):
    """State, recorder and figures of each update."""
    state, recorder, root, rows = state or start(), ListRecorder(), jax.random.key(3), []
    for step in range(int(state.step), steps):
        bad = jnp.float32(jnp.nan if step in bad_steps else 1.0)
        state, figures = update(state, bad, root, spoils)
        rows.append({name: float(value) for name, value in figures.items()})
        check_health(rows[-1], step, limit, recorder, state, {"root": root, "bad": bad})
    return state, recorder, rows


@pytest.mark.parametrize("spoils", ["gradient", "loss"])
def test_a_skipped_update_changes_nothing_but_the_step_and_training_goes_on_as_without_it(spoils):
    """Bit for bit the training in which that step is left out, done here by hand."""
    by_hand = start()
    for step in (0, 1, 3, 4, 5):
        by_hand, _ = update(by_hand.replace(step=jnp.int32(step)), jnp.float32(1.0), jax.random.key(3), spoils)
    state, _, rows = train({2}, spoils=spoils)
    jax.tree.map(np.testing.assert_array_equal, (state.policy, state.optimiser), (by_hand.policy, by_hand.optimiser))
    assert (state.step, state.skipped) == (6, 1)
    assert [row["grad_health/skipped"] for row in rows] == [0, 0, 1, 1, 1, 1]


def test_modules_and_entries_that_are_not_finite_are_counted_and_the_others_are_measured():
    _, recorder, rows = train({2})
    assert [row["grad_health/nonfinite_policy"] for row in rows] == [0, 0, 1, 0, 0, 0]
    assert np.isnan(rows[2]["grad_norm/policy/gains"]) and rows[2]["grad_norm/policy/trunk"] > 0.0
    for row in rows[:2]:
        parts = [row["grad_norm/policy/gains"], row["grad_norm/policy/trunk"]]
        assert row["grad_norm/policy"] == pytest.approx(np.hypot(*parts), rel=1e-6)
    (event,) = recorder.events
    assert event[0] == 2 and "policy/gains" in event[1] and "trunk" not in event[1]


def test_the_dump_of_a_skipped_update_reproduces_its_gradient():
    _, recorder, rows = train({4})
    (name,) = recorder.checkpoints
    dump = recorder.checkpoints[name]
    assert name == "nonfinite_4" and dump["state"].step == 4 and dump["state"].skipped == 0
    _, again = update(dump["state"], dump["bad"], dump["root"])
    np.testing.assert_equal({name: float(value) for name, value in again.items()}, rows[4])
    before, _, _ = train(set(), steps=4)
    jax.tree.map(np.testing.assert_array_equal, dump["state"], before)
    assert np.isnan(dump["figures"]["grad_norm"]["policy"]["gains"])


def test_the_run_fails_when_more_updates_than_the_limit_were_skipped_and_says_where_to_look():
    train({1, 3}, limit=2)
    with pytest.raises(TrainingError, match=r"^3 updates .*nonfinite_limit = 2.*step 5 in policy/gains.*nonfinite_5 "):
        train({1, 3, 5}, limit=2)
    with pytest.raises(TrainingError, match="at step 1 in loss/total"):
        train({1}, limit=0, spoils="loss")


def test_the_count_goes_on_in_a_resumed_run():
    half, _, _ = train({1}, steps=3, limit=1)
    with pytest.raises(TrainingError, match="^2 updates"):
        train({1, 4}, limit=1, state=half)


@pytest.mark.parametrize("largest", [1e20, 3e38])
def test_a_gradient_whose_norm_is_no_float32_is_clipped_and_not_lost(largest):
    gradient = {"w": jnp.array([largest, -0.5 * largest], jnp.float32)}
    small = {"w": jnp.array([1.0, -0.5], jnp.float32)}
    zero = jax.tree.map(jnp.zeros_like, gradient)
    (change, _), (expected, _) = (OPTIMISER.update(each, OPTIMISER.init(zero), zero) for each in (gradient, small))
    np.testing.assert_allclose(change["w"], expected["w"], rtol=1e-5)
    assert float(tree_norm(change)) > 0.0


def test_healthy_metrics_have_no_nonfinite_source_whatever_else_is_undefined():
    healthy = {"loss/total": 1.0, "grad_norm/policy/a": 1.0, "grad_health/nonfinite_policy": 0.0}
    assert nonfinite_sources(healthy | {"eval/time_to_goal": float("nan")}) == []
    assert nonfinite_sources(healthy | {"loss/goal": float("inf")}) == ["loss/goal"]


def test_metrics_are_stored_as_a_tree_without_losing_a_name():
    tree = nested({"grad_norm/policy": 2.0, "grad_norm/policy/gains": 1.0, "loss/total": 3.0})
    assert tree == {"grad_norm": {"policy": {"all": 2.0, "gains": 1.0}}, "loss": {"total": 3.0}}
    assert re.fullmatch("[a-z_]+", "".join(tree))
