from __future__ import annotations

import math

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.agreement import Tolerance, compare_runs, compare_series, environment_differences
from drone_cbf.tracking.queries.cells import CELLS_FILE
from drone_cbf.tracking.runs.stage_run import StageRun

EXACT = Tolerance()


def run_with(experiment: str, **series: list[float]) -> str:
    run_id = MlflowClient().create_run(experiment).info.run_id
    for name, values in series.items():
        for step, value in enumerate(values):
            StageRun(run_id, experiment, "toy").log_metrics({name: value}, step)
    return run_id


def compare(left: str, right: str, tolerance: Tolerance = EXACT):
    client = MlflowClient()
    return compare_runs(client.get_run(left), client.get_run(right), tolerance, lambda number: None)


def test_runs_with_the_same_histories_agree_and_nan_agrees_with_nan(experiment: str) -> None:
    left, right = (run_with(experiment, loss=[1.0, math.nan, 0.25], rate=[0.5]) for _ in range(2))
    rows = compare(left, right)
    assert [(row.metric, row.steps, row.disagreeing) for row in rows] == [("loss", 3, 0), ("rate", 1, 0)]
    assert rows[0].recorded == rows[0].repeated == 0.25


def test_a_difference_in_the_middle_of_a_history_is_found(experiment: str) -> None:
    left, right = run_with(experiment, loss=[1.0, 0.5, 0.25]), run_with(experiment, loss=[1.0, 0.5 + 1e-12, 0.25])
    (row,) = compare(left, right)
    assert (row.disagreeing, row.first) == (1, 1) and row.largest_difference == pytest.approx(1e-12, rel=1e-3)
    assert not compare(left, right, Tolerance(absolute=1e-9))[0].disagreeing


def test_a_metric_or_a_step_of_one_run_alone_disagrees(experiment: str) -> None:
    left, right = run_with(experiment, loss=[1.0, 0.5], own=[1.0]), run_with(experiment, loss=[1.0])
    loss, own = compare(left, right, Tolerance(relative=1.0, absolute=1e9))
    assert (loss.disagreeing, loss.first) == (1, 1)
    assert own.disagreeing == 1 and math.isnan(own.repeated)


def test_metrics_of_the_machine_are_left_out(experiment: str) -> None:
    left, right = run_with(experiment, loss=[1.0]), run_with(experiment, loss=[1.0])
    StageRun(left, experiment, "toy").log_metrics({"system/cpu_utilization_percentage": 50.0})
    assert [row.metric for row in compare(left, right)] == ["loss"]


def test_a_step_that_was_logged_twice_disagrees_with_one_logged_once() -> None:
    assert compare_series("loss", {0: [1.0, 1.0]}, {0: [1.0]}, EXACT).disagreeing == 1
    assert compare_series("loss", {0: [1.0, 1.0]}, {0: [1.0, 1.0]}, EXACT).disagreeing == 0


@pytest.mark.parametrize(
    ("left", "right", "accepted"),
    [
        (1.0, 1.0, True),
        (100.0, 105.0, True),
        (100.0, 107.0, False),
        (0.0, 0.009, True),
        (0.0, 0.011, False),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        (math.inf, 1.0, False),
    ],
)
def test_the_tolerance_is_a_fraction_of_the_value_and_a_little_beside(
    left: float, right: float, accepted: bool
) -> None:
    tolerance = Tolerance(relative=0.05, absolute=0.01)
    assert tolerance.accepts(left, right) is tolerance.accepts(right, left) is accepted


def test_versions_commit_and_device_that_differ_are_named_whether_as_one_tag_or_as_many() -> None:
    before = {"drone_cbf.version.jax": "1", "drone_cbf.version.numpy": "2", "drone_cbf.device": "cpu", "x": "1"}
    after = {"drone_cbf.versions": "jax 2, numpy 2", "drone_cbf.device": "gpu", "x": "2"}
    assert environment_differences(before, after) == {"version.jax": ("1", "2"), "device": ("cpu", "gpu")}
    assert environment_differences(before, before) == environment_differences(after, after) == {}
    assert environment_differences({"mlflow.source.git.commit": "a"}, {"mlflow.source.git.commit": "b"}) == {
        "commit": ("a", "b")
    }
    assert environment_differences({}, {"drone_cbf.versions": "jax 2"}) == {"version.jax": ("unknown", "2")}


CELL = {"scene": "forest", "noise": 0.02, "goals": "random", "filtered": True}
PLACE = "eval/forest/noise_0.02/random"


def evaluation(experiment: str, figures: dict[str, float], *logged: str) -> str:
    """An evaluation of one cell; ``logged``: those of its figures that are metrics too."""
    run_id = run_with(experiment, **{f"{PLACE}/{name}": [figures[name]] for name in logged})
    StageRun(run_id, experiment, "toy").log_table(
        {name: [value] for name, value in {**CELL, **figures}.items()}, CELLS_FILE
    )
    return run_id


def test_a_figure_that_is_no_metric_any_more_is_compared_through_the_table_to_the_last_bit(experiment: str) -> None:
    figures = {"success_rate": 2.0 / 3.0, "effort": 1.0 / 3.0, "time_to_goal": math.nan}
    older = evaluation(experiment, figures, *figures)
    newer = evaluation(experiment, figures, "success_rate")
    rows = compare(older, newer)
    assert [(row.metric.rpartition("/")[2], row.steps, row.disagreeing) for row in rows] == [
        ("effort", 1, 0), ("success_rate", 1, 0), ("time_to_goal", 1, 0),
    ]  # fmt: skip
    for name, other in (("effort", 1.0 / 3.0 + 1e-16), ("time_to_goal", 1.0)):
        for logged in (tuple(figures), ("success_rate",)):
            altered = evaluation(experiment, {**figures, name: other}, *logged)
            assert [row.metric for row in compare(altered, newer) if row.disagreeing] == [f"{PLACE}/{name}"]
    del figures["effort"]
    lost = evaluation(experiment, figures, "success_rate")
    for run_id in (older, newer):
        assert [row.metric for row in compare(run_id, lost) if row.disagreeing] == [f"{PLACE}/effort"]


def test_what_was_not_counted_yet_in_recorded_runs_is_zero_there(experiment: str) -> None:
    figures, name = {"success_rate": 0.5}, "unavoidable_rate"
    older, newer = evaluation(experiment, figures), evaluation(experiment, {**figures, name: 0.0}, name)
    kept = evaluation(experiment, {**figures, name: 0.0})
    assert not any(row.disagreeing for later in (newer, kept) for row in compare(older, later))
    for logged in ((), (name,)):
        altered = evaluation(experiment, {**figures, name: 0.25}, *logged)
        for other in (older, newer, kept):
            assert [row.metric for row in compare(other, altered) if row.disagreeing] == [f"{PLACE}/{name}"]


def test_a_factor_of_the_monitor_is_one_where_it_is_not_logged(experiment: str) -> None:
    name = "adaptive/blend_scale"
    constant, silent = (run_with(experiment, loss=[1.0, 2.0], **more) for more in ({name: [1.0, 1.0]}, {}))
    rolled_back = run_with(experiment, loss=[1.0, 2.0], **{name: [1.0, 0.5]})
    assert not any(row.disagreeing for row in compare(constant, silent))
    (row,) = (row for row in compare(rolled_back, silent) if row.disagreeing)
    assert (row.metric, row.first, row.repeated) == (name, 1, 1.0)
