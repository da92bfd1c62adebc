"""Training under a monitor: what a run does from measurement to measurement."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from drone_cbf.tracking.checkpoints.packages import to_leaves
from drone_cbf.tracking.checkpoints.store import match
from drone_cbf.training.curriculum.mechanisms import Learning, LossWeights
from tests.training import scripted_training
from tests.training.scripted_training import (
    DRIFT,
    POLICY,
    always_good,
    column,
    stage,
    train,
    until,
)


def test_a_good_run_is_measured_regularly_and_left_alone():
    run = train(always_good, stage(steps=5), every=2)
    assert [step for step, _ in column(run, "eval/success_rate")] == [1, 3, 4], "after updates 2, 4 and at the end"
    assert [step for step, _ in column(run, "robust/success_rate")] == [1, 3, 4]
    assert column(run, "monitor/entry_success") == [(0, 1.0)]
    assert [value for _, value in column(run, "monitor/failures")] == [0.0, 0.0]
    for name in ("blend", "penalty", "learning_rate"):
        assert not column(run, f"adaptive/{name}_scale"), "1 until the first roll-back, which nobody needs to see"
    assert not run.recorder.events and not column(run, "monitor/rollbacks")
    assert run.final == 5.0


def test_without_a_monitor_nothing_is_measured_stored_or_logged_for_it():
    run = train(always_good, every=0)
    assert len(run.seen) == 1 and not any(random for *_, random in run.seen)
    names = {name for row in run.recorder.rows for name in row}
    assert not {name for name in names if name.startswith(("monitor/", "adaptive/", "robust/"))}
    assert all(progress.monitor is None for progress in run.recorder.states.values())


def test_the_anchor_stays_the_parents_policy_through_all_stages_and_roll_backs():
    tied = Learning(weights=LossWeights(distill=0.1))
    run = train(until(2.5), stage(steps=9), stage("two", steps=2), learning=tied, patience=0, rate_backoff=0.01)
    assert column(run, "monitor/rollbacks") and run.final > 2.0
    assert {value for _, value in column(run, "teacher")} == {float(POLICY["p"])}
    assert not column(train(always_good), "teacher"), "where nothing is tied there is none"


def test_flights_are_measured_under_the_conditions_of_the_current_stage():
    stages = stage("first", steps=2, blend=0.25), stage("second", steps=2, blend=1.0)
    run = train(always_good, *stages)
    mid_stage = [(name, blend) for name, blend, flights, _ in run.seen if flights == 5]
    assert mid_stage == [("first", 0.25)] * 2 + [("second", 1.0)] * 2, "entry and one measurement each"


def test_a_state_that_fails_and_is_the_best_so_far_is_not_rolled_back():
    run = train(lambda policy, *_: (min(1.0, 0.1 * policy), 0.0), stage(steps=12), patience=0)
    assert not run.recorder.events and run.final == 12.0
    assert {value for _, value in column(run, "monitor/failures")} == {0.0}


def test_beyond_patience_the_best_state_returns_with_less_blend_more_penalty_and_slower():
    """Policy 2 is the last good one. Updates 3, 4, 5 fail; patience 2 is exceeded at the third."""
    run = train(until(2.0), stage(steps=20, blend=1.0), patience=2, rate_backoff=0.125, penalty_boost=3.0)
    steps = [step for step, _ in run.recorder.events]
    assert steps[0] == 5
    text = run.recorder.events[0][1]
    assert "failed 3 measurements in a row, the last with success 0.000 below 0.9, violation 9.000 above 2" in text
    assert "rolled back to step 2 (success 1.000, violation 0.500)" in text, "the last good one"
    assert "blend x 0.5, penalties x 3, learning rates x 0.125" in text
    assert column(run, "monitor/rollbacks")[0] == (4, 1.0)
    assert [value for _, value in column(run, "monitor/failures")][:5] == [0.0, 0.0, 1.0, 2.0, 3.0]
    assert dict(column(run, "curriculum/blend"))[5] == 0.5, "the update after the roll-back flies the analytic half"
    for name, after in (("blend", 0.5), ("penalty", 3.0), ("learning_rate", 0.125)):
        assert column(run, f"adaptive/{name}_scale")[0] == (5, after), "from the first roll-back on"


def test_blend_and_penalty_recover_as_measurements_pass_and_the_learning_rate_does_not():
    """One roll-back at full drift; an eighth of it stays within what is good."""

    def script(policy, blend, stage):
        return (1.0 - 0.01 * policy, 0.0) if policy < 0.9 else (0.0, 0.0)

    run = train(script, stage(steps=7, blend=1.0), patience=0, rate_backoff=0.125)
    assert [step for step, _ in run.recorder.events] == [1]
    flown = [blend for _, blend, flights, _ in run.seen if flights == 5]
    assert flown[:4] == [1.0, 1.0, 0.5, 1.0], "measured under the blend in force: entry, failure, pass, recovered"
    blends, penalties = (dict(column(run, f"adaptive/{name}_scale")) for name in ("blend", "penalty"))
    assert [blends[step] for step in (1, 2)] == [0.5, 1.0]
    assert [penalties[step] for step in (1, 2)] == [2.0, 1.0]
    assert dict(column(run, "adaptive/learning_rate_scale"))[6] == 0.125


def test_a_violation_above_the_stages_threshold_fails_a_measurement_by_itself():
    def careless(policy, blend, stage):
        return 1.0, 3.0

    strict = train(careless, stage(steps=2, violation_threshold=2.0), patience=5, extensions=0)
    lax = train(careless, stage(steps=2, violation_threshold=4.0), patience=5, extensions=0)
    assert [value for _, value in column(strict, "monitor/failures")] == [1.0]
    assert [value for _, value in column(lax, "monitor/failures")] == [0.0]
    assert "violation 3.000 above 2" in strict.recorder.events[0][1] and not lax.recorder.events


def test_the_best_checkpoint_holds_the_best_state_not_the_last():
    run = train(lambda policy, blend, stage: (1.0 - 0.01 * abs(policy - 3.0), 0.0), stage(steps=8))
    best = run.recorder.checkpoints["best"]
    assert (float(best["state"].policy["p"]), int(best["state"].step)) == (3.0, 3)
    assert run.final == 8.0 and not run.recorder.events, "a later state that passes is handed on all the same"


def test_a_run_fails_after_its_rollbacks_and_names_the_unmet_thresholds_and_remedies():
    run = train(until(-1.0), stage(steps=50), patience=0, rollbacks=2)
    assert [value for _, value in column(run, "monitor/rollbacks")] == [1.0, 2.0]
    assert "success 0.000 below 0.9" in run.error and "after 2 roll-backs" in run.error
    assert "lower the learning rate" in run.error and "\n" not in run.error


def test_one_nonfinite_loss_more_than_tolerated_rolls_back():
    start = {"p": jnp.float32(99.5)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripted_training, "POLICY", start)
        watched = train(
            lambda policy, *_: (1.0 - 1e-4 * policy, 0.0), stage(steps=4), borne=0, patience=9, rate_backoff=0.1
        )
        alone = train(always_good, stage(steps=4), borne=0, every=0)
    (_, skipped), (_, rolled_back) = watched.recorder.events
    assert "update skipped, not finite: loss/total" in skipped
    assert "at step 1 in loss/total" in rolled_back and "rolled back to step 0" in rolled_back
    assert watched.error is None and watched.final == pytest.approx(99.5 + 2 * 0.1 * DRIFT, abs=1e-4)
    assert "nonfinite_limit = 0" in alone.error and "at step 1 in loss/total" in alone.error


def test_a_killed_run_resumes_to_the_same_bits_whatever_the_monitor_remembers():
    """Through a roll-back in each of two stages and back-offs that recover."""

    def script(policy, blend, stage):
        return (1.0 - 0.01 * policy, 0.5) if policy <= (3.0 if stage.name == "one" else 1.6) else (0.0, 9.0)

    stages = stage(steps=9, blend=1.0), stage("two", steps=6, blend=1.0)
    options = {"patience": 1, "rate_backoff": 0.25, "every": 1}
    whole = train(script, *stages, **options)
    assert [step for step, _ in whole.recorder.events] == [5, 13] and whole.error is None
    assert {progress.monitor.backoffs for progress in whole.recorder.states.values()} >= {0, 1}
    for step in (4, 5, 9, 13, 14):
        stored = whole.recorder.states[step]
        loaded = match(stored, unflatten_dict(to_leaves(stored)), "progress")  # as the store gives it back
        rest = train(script, *stages, saved=loaded, **options)
        assert rest.final == whole.final
        later = [row for row in whole.recorder.rows if row["step"] >= step]
        repeated = [row for row in rest.recorder.rows if row["step"] >= step]
        np.testing.assert_equal(repeated, later)
        assert set(rest.recorder.events) <= set(whole.recorder.events)
        last = max(whole.recorder.states)
        if step < last:
            jax.tree.map(np.testing.assert_array_equal, rest.recorder.states[last], whole.recorder.states[last])


def test_nan_violations_are_stored_and_restored():
    run = train(lambda policy, blend, stage: (0.0, math.nan), stage(steps=3), patience=9, extensions=0)
    stored = run.recorder.states[2]
    assert stored.monitor.best.violation == math.inf
    rest = train(lambda *_: (0.0, math.nan), stage(steps=3), patience=9, extensions=0, saved=stored)
    assert rest.final == run.final
