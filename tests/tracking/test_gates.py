from __future__ import annotations

import math
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.statistics import rate_upper_bound
from drone_cbf.tracking.registry.gates import Check, GateSettings, judge
from projects.cli.stage_parameters import PIPELINE_SIZES
from projects.inputs.gate_files import load_gates
from tests.projects.trained import GOOD, evaluate_run

GATES = GateSettings.model_validate(
    {
        "gates": [
            {"metric": "eval/success_rate", "at_least": 0.99, "worse_by": 0.005},
            {"metric": "eval/max_violation", "at_most": 2.0},
        ]
    }
)
FINE = {"eval/success_rate": 0.995, "eval/max_violation": 2.0}


def failing(checks: list[Check]) -> list[str]:
    return [check.reason for check in checks if not check.passed]


def test_a_value_on_the_threshold_passes_and_one_beyond_fails() -> None:
    assert failing(judge(GATES, FINE, None)) == []
    assert failing(judge(GATES, {**FINE, "eval/max_violation": 2.0001}, None)) == [
        "eval/max_violation = 2.0001, wanted at most 2"
    ]
    assert failing(judge(GATES, {**FINE, "eval/success_rate": 0.98}, None)) == [
        "eval/success_rate = 0.98, wanted at least 0.99"
    ]


def test_a_missing_metric_and_one_that_is_nan_fail() -> None:
    assert failing(judge(GATES, {"eval/success_rate": 1.0}, None)) == ["eval/max_violation is missing"]
    for name in FINE:
        assert failing(judge(GATES, {**FINE, name: math.nan}, None))[0].startswith(f"{name} = nan, wanted")


def test_the_champion_raises_the_bar_only_where_worse_by_is_given() -> None:
    champion = {"eval/success_rate": 1.0, "eval/max_violation": 0.0}
    assert failing(judge(GATES, FINE, champion)) == [], "1.0 - 0.005 is met exactly"
    (reason,) = failing(judge(GATES, {**FINE, "eval/success_rate": 0.994}, champion))
    assert reason == "eval/success_rate = 0.994, wanted at least 0.995 (champion, and worse by 0.005)"
    worse = {"eval/success_rate": 0.9, "eval/max_violation": 9.0}
    assert failing(judge(GATES, FINE, worse)) == [], "a weak champion does not lower the thresholds"
    assert len(failing(judge(GATES, {**FINE, "eval/success_rate": 0.95}, worse))) == 1


@pytest.mark.parametrize("champion", [{}, {"eval/success_rate": math.nan}])
def test_a_champion_without_the_metric_cannot_be_compared_with(champion: dict[str, float]) -> None:
    assert failing(judge(GATES, FINE, champion)) == ["eval/success_rate is missing on the champion's evaluation"]


def test_a_pipelines_flights_are_enough_for_the_shipped_gate_and_one_collision_among_them_is_too_many() -> None:
    matrix = EvaluationSettings()
    flights = PIPELINE_SIZES["rollouts"] * len(matrix.scenarios) * len(matrix.noise) * len(matrix.goals)
    for collisions, passes in ((0, True), (1, False)):
        figures = {**GOOD, "eval/collision_rate_total_ub99": rate_upper_bound(collisions, flights)}
        assert (failing(judge(load_gates("default"), figures, None)) == []) is passes, collisions


def test_the_shipped_gates_pass_the_recorded_run_and_fail_worse_ones() -> None:
    gates = load_gates("default")
    assert failing(judge(gates, GOOD, GOOD)) == []
    worse = {
        "eval/success_rate": 0.97,
        "eval/collision_rate_total_ub99": 4.8e-4,  # one collision in 13,824 flights
        "eval/max_violation": 5.0,
        "eval/relax_rate": 0.002,
        "eval/final_distance_mean": 0.06,
    }
    assert {gate.metric for gate in gates.gates} == set(worse)
    for name, value in worse.items():
        assert len(failing(judge(gates, {**GOOD, name: value}, None))) == 1, name


def test_one_query_finds_the_evaluations_that_meet_the_thresholds(experiment: str) -> None:
    gates = load_gates("default")
    good = evaluate_run(experiment, "none")
    for figures in ({"eval/success_rate": math.nan}, {"eval/relax_rate": None}, {"eval/max_violation": 5.0}):
        evaluate_run(experiment, "none", figures)
    evaluate_run(experiment, "none", status="FAILED")
    found = MlflowClient().search_runs([experiment], gates.query())
    assert [run.info.run_id for run in found] == [good]


def test_a_gate_on_a_figure_that_only_the_table_of_cells_holds_is_not_in_the_query_and_said_so(experiment: str) -> None:
    cell = "eval/forest/noise_0.05/random"
    gates = GateSettings.model_validate(
        {"gates": [{"metric": f"{cell}/{name}", "at_least": 0.9} for name in ("success_rate", "mean_speed")]}
    )
    assert gates.not_searchable == (f"{cell}/mean_speed",) and "mean_speed" not in gates.query()
    good = evaluate_run(experiment, "none")
    assert [run.info.run_id for run in MlflowClient().search_runs([experiment], gates.query())] == [good]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("gates: [", "is not valid YAML"),
        ("- a", "expected a mapping with 'gates'"),
        ("gates: []", "gates = "),
        ("gates: [{metric: m}]", "m needs one of at_least"),
        ("gates: [{metric: m, at_least: 1, at_most: 2}]", "m needs one of at_least"),
        ("gates: [{metric: m, at_least: high}]", "gates.0.at_least = 'high'"),
        ("gates: [{metric: m, at_least: .nan}]", "gates.0.at_least = nan: Input should be a finite number"),
        ("gates: [{metric: m, at_least: 1, worse_by: -1}]", "gates.0.worse_by = -1"),
        ("gates: [{metric: m, at_least: 1, better_by: 1}]", "gates.0.better_by"),
        ("gates: [{metric: m, at_least: 1}, {metric: m, at_most: 1}]", "m is given twice"),
        ("gates: [{metric: 'a` or 1', at_least: 1}]", "gates.0.metric"),
    ],
)
def test_a_bad_file_of_gates_is_one_line_that_names_it(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_gates(str(file))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_evaluations_of_swarms_have_gates_of_their_own_which_change_no_digest_of_others() -> None:
    default = load_gates("default")
    swarms = default.for_evaluation("lidar", swarm=True)
    assert {gate.metric for gate in swarms.gates} >= {"eval/gcbf_safe_rate", "eval/blocked_rate"}
    without = default.model_copy(update={"swarms": None})
    assert without.for_evaluation("lidar", swarm=True) == default.for_evaluation("lidar")
    for kind in ("surfaces", "lidar"):
        assert without.for_evaluation(kind).digest() == default.for_evaluation(kind).digest() != swarms.digest()
    good = {gate.metric: gate.limit for gate in swarms.gates}
    assert all(check.passed for check in judge(swarms, good, None))
    touched = judge(swarms, good | {"eval/smallest_separation": -1e-4}, None)
    assert [check.metric for check in touched if not check.passed] == ["eval/smallest_separation"]
    assert swarms.not_searchable == ()
