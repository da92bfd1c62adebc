"""The end of a stage: what leaves it, with which margin, or what it is trained longer for."""

import pytest

from tests.training.scripted_training import (
    REPORT_FLIGHTS,
    ScriptedMeasures,
    always_good,
    column,
    stage,
    train,
    until,
)


def test_a_stage_is_measured_with_the_margin_of_its_last_state_which_the_next_stage_trains_with():
    run = train(always_good, stage("first", steps=3), stage("second", steps=2), every=1)
    margins = [one for one in run.margins if one[1] != 3]  # those of drones drawn at random aside
    first = [("first", 5, 0.0)] * 3 + [("first", REPORT_FLIGHTS, 0.03)]
    assert margins == [*first, *[("second", 5, 0.03)] * 2, ("second", REPORT_FLIGHTS, 0.05)]
    assert [float(run.recorder.states[step].margin) for step in (3, 4)] == pytest.approx([0.0, 0.03])
    kept = run.recorder.checkpoints
    assert float(kept["stage_1_first"]["margin"]) == pytest.approx(0.03)
    assert float(kept["stage_2_second"]["margin"]) == pytest.approx(0.05)
    assert float(kept["best"]["margin"]) == pytest.approx(0.03), "the margin with which it was measured"


def test_a_margin_that_leaves_no_room_fails_the_gate():
    """The flights of training had the old margin, and were good with it."""

    def script(policy, blend, stage):
        return 1.0, 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedMeasures, "fly", with_success_below(0.02, ScriptedMeasures.fly))
        run = train(script, stage(steps=4), patience=9, extensions=0, gate="fail")
    assert [value for _, value in column(run, "monitor/failures")] == [0.0, 0.0, 0.0]
    assert "success 0.000 below 0.9" in run.error


def with_success_below(margin, fly):
    """``fly``, but nothing succeeds behind a larger margin."""

    def flown(self, controller, *given, **named):
        measured = fly(self, controller, *given, **named)
        if controller.margin > margin:
            measured.flown.metrics["success_rate"] = 0.0
        return measured

    return flown


def test_a_missed_gate_counts_as_a_failed_measurement_and_beyond_patience_rolls_back():
    """Policy 1 is the last good one, so updates 2 and 3 fail; at the end of three the gate is the second failure."""
    run = train(until(1.0), stage(steps=3, blend=1.0), patience=1, rate_backoff=0.01, every=1)
    texts = [text for _, text in run.recorder.events]
    assert "going on from step 1, which met the thresholds" in texts[0], "no need to train longer"
    lost = train(lambda policy, *_: (0.5 - 0.01 * policy, 0.0), stage(steps=3), patience=2, rate_backoff=0.01, every=1)
    texts = [text for _, text in lost.recorder.events]
    assert "training 1 more steps" in texts[0]
    assert "failed 3 measurements in a row, the last with success 0.470 below 0.9; rolled back to step 0" in texts[1]


def test_a_stage_that_misses_at_its_end_goes_on_from_its_best_state():
    run = train(until(3.0), stage(steps=5), patience=5)
    assert run.final == 3.0 and len(run.recorder.events) == 1
    assert "going on from step 3, which met the thresholds" in run.recorder.events[0][1]
    assert column(run, "eval/success_rate")[-1] == (4, 1.0), "the figures of the state that is handed on"
    assert float(run.recorder.checkpoints["stage_1_one"]["state"].policy["p"]) == 3.0
    assert int(run.recorder.checkpoints["stage_1_one"]["state"].step) == 5, "steps are never repeated"


@pytest.mark.parametrize("extensions", [0, 1, 3])
def test_a_stage_is_extended_as_often_as_it_is_allowed(extensions):
    run = train(until(-1.0), stage(steps=4), every=0, extensions=extensions)
    assert len(column(run, "loss/total")) == 4 + 2 * extensions
    assert len(run.recorder.events) == extensions + 1 and "going on" in run.recorder.events[-1][1]


def test_the_gate_fail_ends_the_run():
    run = train(until(-1.0), stage(steps=4), stage("two", steps=4), every=0, gate="fail")
    assert "stage one: still success 0.000 below 0.9" in run.error and "monitor.gate" in run.error
    assert "stage_1_one" not in run.recorder.checkpoints


def test_a_stage_is_passed_under_its_own_blend_only_and_a_run_that_ends_backed_off_says_so():
    def analytic_only(policy, blend, stage):
        return (1.0, 0.0) if blend < 0.6 else (0.0, 9.0)

    run = train(analytic_only, stage(steps=3, blend=1.0), patience=1, extensions=0)
    gates = [blend for _, blend, flights, random in run.seen if flights == REPORT_FLIGHTS]
    assert gates == [1.0], "measured at full blend although it was backed off"
    assert "success 0.000 below 0.9" in run.recorder.events[-2][1] and "going on" in run.recorder.events[-2][1]
    assert "training ends backed off" in run.recorder.events[-1][1] and "blend x 0.5" in run.recorder.events[-1][1]
