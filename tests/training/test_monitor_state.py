"""What follows from measurements, as pure functions: factors, ranks, counts."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.training.barrier.minibatches import scale_changes
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from drone_cbf.training.monitor.measurements import unmet_thresholds
from drone_cbf.training.monitor.stage_monitor import (
    after_measurement,
    after_rollback,
    after_stage_start,
    candidate,
    initial_monitor,
    scales_of,
)
from drone_cbf.training.update.joint_update import Scales, conditions_of, scale_penalties

STAGE = Stage(name="one", steps=4, blend=0.8, success_threshold=0.9, violation_threshold=2.0)
COURSE = Curriculum(name="one", stages=(STAGE,))
CONFIG = Monitor(every=1, blend_backoff=0.5, penalty_boost=3.0, penalty_limit=20.0, rate_backoff=0.1)


def found(success, violation=0.0, backoffs=0, state="state"):
    return candidate(state, {"success_rate": success, "violation_p999": violation}, STAGE, backoffs)


def watch_of(first=None):
    return after_stage_start(initial_monitor("start"), first or found(0.5, state="entry"), 0)


@pytest.mark.parametrize(
    ("backoffs", "rollbacks", "expected"),
    [
        (0, 0, Scales(1.0, 1.0, 1.0)),
        (1, 1, Scales(0.5, 3.0, 0.1)),
        (2, 4, Scales(0.25, 9.0, 1e-4)),
        (3, 3, Scales(0.125, 20.0, 1e-3)),
        (0, 2, Scales(1.0, 1.0, 1e-2)),
    ],
)
def test_factors_are_powers_of_the_counts_up_to_the_limit(backoffs, rollbacks, expected):
    scales = scales_of(watch_of().replace(backoffs=backoffs, rollbacks=rollbacks), CONFIG)
    np.testing.assert_allclose(
        [scales.blend, scales.penalty, scales.learning_rate],
        [expected.blend, expected.penalty, expected.learning_rate],
        rtol=1e-12,
    )


def test_a_backoff_to_zero_is_taken_back_too():
    config = CONFIG.model_copy(update={"blend_backoff": 0.0})
    assert scales_of(watch_of().replace(backoffs=1), config).blend == 0.0
    assert scales_of(after_measurement(watch_of().replace(backoffs=1), found(1.0)), config).blend == 1.0


def test_conditions_are_scaled_only_where_a_monitor_scales_them():
    plain = conditions_of(COURSE, STAGE)
    assert plain.penalty is None and plain.learning_rate is None and plain.blend == np.float32(0.8)
    scaled = conditions_of(COURSE, STAGE, Scales(blend=0.5, penalty=3.0, learning_rate=0.1))
    assert (scaled.blend, scaled.penalty, scaled.learning_rate) == (np.float32(0.4), 3.0, np.float32(0.1))


def test_a_density_is_a_condition_of_all_stages_if_one_thins_out_its_scenes_and_else_of_none():
    assert conditions_of(COURSE, STAGE).density is None
    thin = STAGE.model_copy(update={"density": 0.25})
    course = COURSE.model_copy(update={"stages": (thin, STAGE)})
    assert [conditions_of(course, stage).density for stage in course.stages] == [0.25, 1.0]


def test_penalties_weigh_slack_collision_and_fallback_alone():
    terms = {"slack": 1.0, "collision": 2.0, "fallback": 3.0, "goal": 4.0, "intervention": 5.0}
    assert scale_penalties(terms, 10.0) == {**terms, "slack": 10.0, "collision": 20.0, "fallback": 30.0}
    assert scale_penalties(terms, None) == terms


def test_parameter_changes_are_scaled_as_a_whole():
    change = {"a": jnp.array([1.0, -2.0]), "b": jnp.float32(3.0)}
    slow = scale_changes(change, jnp.float32(0.5))
    np.testing.assert_array_equal(slow["a"], [0.5, -1.0])
    assert slow["b"] == 1.5 and scale_changes(change, None) is change


@pytest.mark.parametrize(
    ("success", "violation", "missed"),
    [
        (0.9, 2.0, ""),
        (0.89, 2.0, "success 0.890 below 0.9"),
        (1.0, 2.5, "violation 2.500 above 2"),
        (0.1, 9.0, "success 0.100 below 0.9, violation 9.000 above 2"),
        (math.nan, 0.0, "success nan below 0.9"),
        (1.0, math.nan, "violation nan above 2"),
    ],
)
def test_both_thresholds_of_the_stage_count_and_nan_does_not_meet_them(success, violation, missed):
    assert unmet_thresholds({"success_rate": success, "violation_p999": violation}, STAGE) == missed
    assert found(success, violation).passed == (not missed)


def test_states_are_ranked_by_passing_then_nearness_then_success_then_violation():
    worst_first = [
        found(0.0, math.nan),
        found(0.0, 5.0),
        found(0.5, 0.0),
        found(0.9, 0.5, backoffs=2),
        found(1.0, 0.0, backoffs=1),
        found(0.95, 1.0),
        found(0.95, 0.5),
        found(0.96, 1.5),
    ]
    ranks = [state.rank for state in worst_first]
    assert ranks == sorted(ranks) and len(set(ranks)) == len(ranks)


def test_consecutive_failures_are_counted_and_a_pass_resets_them():
    watch = watch_of()
    for expected in (1, 2, 3):
        watch = after_measurement(watch, found(0.2))
        assert watch.failures == expected
    assert after_measurement(watch, found(0.95)).failures == 0


def test_the_best_state_is_kept_and_the_entry_state_is_one():
    watch = watch_of(found(0.5, state="entry"))
    watch = after_measurement(watch, found(0.2, state="worse"))
    assert watch.best.state == "entry"
    watch = after_measurement(watch, found(0.95, state="good"))
    watch = after_measurement(watch, found(0.95, state="as good"))
    assert watch.best.state == "as good", "it has learned more"
    hopeless = watch_of(found(0.0, math.nan, state="entry"))
    assert after_measurement(hopeless, found(0.0, math.nan, state="broken")).best.state == "entry"
    assert after_measurement(watch, found(0.96, state="better")).best.state == "better"
    later = after_stage_start(watch, found(0.1, state="next"), 1)
    assert (later.best.state, later.stage, later.failures) == ("next", 1, 0)


def test_each_rollback_backs_off_a_step_and_each_pass_takes_one_back_but_never_the_learning_rate():
    watch = after_rollback(after_rollback(watch_of().replace(failures=3)))
    assert (watch.failures, watch.backoffs, watch.rollbacks) == (0, 2, 2)
    backoffs = []
    for _ in range(4):
        watch = after_measurement(watch, found(1.0))
        backoffs.append(watch.backoffs)
    assert backoffs == [1, 0, 0, 0]
    assert scales_of(watch, CONFIG) == Scales(1.0, 1.0, CONFIG.rate_backoff**2)
    assert after_measurement(after_rollback(watch), found(0.2)).backoffs == 1, "a failure takes nothing back"
