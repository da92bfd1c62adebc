from __future__ import annotations

import math

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.agreement import Tolerance, compare_runs, compare_series, environment_differences
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


def test_versions_commit_and_device_that_differ_are_named_and_nothing_else() -> None:
    before = {"drone_cbf.version.jax": "1", "drone_cbf.version.numpy": "2", "drone_cbf.device": "cpu", "x": "1"}
    after = {"drone_cbf.version.jax": "2", "drone_cbf.version.numpy": "2", "drone_cbf.device": "gpu", "x": "2"}
    assert environment_differences(before, after) == {"version.jax": ("1", "2"), "device": ("cpu", "gpu")}
    assert environment_differences(before, before) == {}
    assert environment_differences({"mlflow.source.git.commit": "a"}, {"mlflow.source.git.commit": "b"}) == {
        "commit": ("a", "b")
    }
    assert environment_differences({}, {"drone_cbf.version.jax": "2"}) == {"version.jax": ("unknown", "2")}
