"""``compare`` on recorded runs of a real store."""

from __future__ import annotations

import csv
import io
import json
import re
from urllib.parse import parse_qs, urlparse

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.config import PhysicsConfig
from projects.running.launch import launch
from tests.projects.recorded import evaluation, policy, record
from tests.projects.trained import SYSTEM, evaluate_run, safety_run


def compare(*arguments: str) -> Run:
    assert launch("compare", list(arguments)) == 0
    found = mlflow.search_runs(search_all_experiments=True, filter_string="tags.drone_cbf.stage = 'compare'",
                               output_format="list", max_results=1)  # fmt: skip
    return MlflowClient().get_run(found[0].info.run_id)


def rows_of(run: Run, name: str) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/comparison/{name}")
    return list(csv.DictReader(io.StringIO(text)))


def test_policies_are_grouped_by_curriculum_with_mean_and_student_interval(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = []
    for name, values in {"default": (0.99, 0.97, 0.98), "hybrid": (0.90,)}.items():
        for seed, success in enumerate(values):
            trained = policy(experiment, name, seed)
            pairs.append((trained, evaluation(experiment, trained, success)))
    run = compare(f"--runs={','.join(trained for trained, _ in pairs)}")
    default, hybrid = rows_of(run, "summary.csv")
    assert (default["group"], default["n"]) == ("default", "3")
    assert float(default["success_rate_mean"]) == pytest.approx(0.98)
    # Student's t for 2 degrees of freedom at 97.5 % is 4.3027; the standard deviation is 0.01.
    assert float(default["success_rate_half_width"]) == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert hybrid["success_rate_half_width"] == "nan", "one seed has no interval"
    assert run.data.metrics["comparison/default/success_rate"] == pytest.approx(0.98)
    blends = rows_of(run, "loss_over_blend.csv")
    assert [(row["group"], float(row["blend"])) for row in blends] == [
        ("default", 0.0), ("default", 1.0), ("hybrid", 0.0), ("hybrid", 1.0),
    ]  # fmt: skip
    assert float(blends[0]["mean"]) == pytest.approx(2.1) and float(blends[1]["mean"]) == pytest.approx(1.1)
    note = run.data.tags["mlflow.note.content"]
    assert "0.98 ± 0.025" in note and "| hybrid" in note
    shown = capsys.readouterr().out
    assert re.search(r"^default +0\.98 ± 0\.025 +0 in 768 +1\.02 ± 0\.025 +0, 1, 2$", shown, re.MULTILINE)
    assert re.search(r"^hybrid +0\.9 +0 in 256 +1\.1 +0$", shown, re.MULTILINE)
    figures = {file.path for file in MlflowClient().list_artifacts(run.info.run_id, "figures")}
    assert figures == {"figures/comparison.png", "figures/loss_over_blend.png"}


def test_the_link_opens_mlflows_own_comparison_of_exactly_these_runs(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = policy(experiment, "default", 0)
    measured = evaluation(experiment, trained, 0.9)
    note = compare(f"--runs={measured}").data.tags["mlflow.note.content"]
    address = note.split("[compare the evaluations](")[1].split(")")[0]
    fragment = urlparse(address).fragment
    given = {key: value[0] for key, value in parse_qs(fragment.partition("?")[2]).items()}
    assert given.pop("workflowType") == "machine_learning", "or MLflow opens its pages for language models"
    asked = {key: json.loads(value) for key, value in given.items()}
    assert fragment.startswith("/compare-runs?") and asked == {"runs": [measured], "experiments": [experiment]}
    assert address in capsys.readouterr().out
    assert f"/runs/{trained}?" in note


def test_cbf_hdot_is_shown_where_it_was_recorded(experiment: str) -> None:
    trained = policy(experiment, "default", 0, loss="loss/cbf_hdot")
    evaluation(experiment, trained, 0.9)
    assert len(rows_of(compare(f"--runs={trained}"), "loss_over_blend.csv")) == 2


def test_policies_that_differ_in_more_than_the_seed_are_different_groups(experiment: str) -> None:
    for seed, task_gradient in ((0, 0.0), (1, 0.1)):
        evaluation(experiment, policy(experiment, "default", seed, barrier_task_gradient=task_gradient), 0.9)
    for seed, lag in ((2, 0.0), (3, 1.0)):
        trained = policy(experiment, "edited", seed, lag=lag, barrier_task_gradient=0.0)
        evaluation(experiment, trained, 0.9)
    name = MlflowClient().get_experiment(experiment).name
    groups = [row["group"] for row in rows_of(compare(f"--experiment={name}"), "summary.csv")]
    assert groups[:2] == ["default, barrier_task_gradient=0.0", "default, barrier_task_gradient=0.1"]
    assert len(groups) == 4 and all(group.startswith("edited, barrier_task_gradient=0.0 [") for group in groups[2:])


def test_a_curriculum_that_was_told_in_other_words_is_the_same_group(experiment: str) -> None:
    for seed in (0, 1):
        trained = policy(experiment, "default", seed)
        content = {"name": "default", "description": f"told {seed}", "stages": [{"name": "a", "steps": 3}]}
        MlflowClient().log_text(trained, json.dumps(content), "curriculum.json")
        evaluation(experiment, trained, 0.9)
    name = MlflowClient().get_experiment(experiment).name
    rows = rows_of(compare(f"--experiment={name}"), "summary.csv")
    assert [(row["group"], row["n"]) for row in rows] == [("default", "2")]


@pytest.mark.slow
def test_of_an_experiment_the_filter_chooses_and_repeated_evaluations_count_once(experiment: str) -> None:
    trained = policy(experiment, "default", 0)
    older, newer = evaluation(experiment, trained, 0.5), evaluation(experiment, trained, 0.9, rollouts=128)
    evaluation(experiment, policy(experiment, "hybrid", 0), 0.7)
    policy(experiment, "default", 1)  # never evaluated: left out
    name = MlflowClient().get_experiment(experiment).name
    run = compare(f"--experiment={name}", f"--filter=tags.drone_cbf.parent_run = '{trained}'")
    (row,) = rows_of(run, "runs.csv")
    assert row["evaluation_run_id"] == newer and float(row["success_rate"]) == 0.9
    assert f"the newer one counts, not {older}" in run.data.tags["mlflow.note.content"]
    run = compare(f"--experiment={name}", "--filter=tags.drone_cbf.curriculum = 'hybrid'")
    assert [row["group"] for row in rows_of(run, "summary.csv")] == ["hybrid"]
    run = compare(f"--experiment={name}")
    assert "The evaluations differ in rollouts: 128; 64." in run.data.tags["mlflow.note.content"]


def refusal(experiment: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert launch("compare", list(arguments)) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "Traceback" not in shown
    failed = MlflowClient().search_runs([experiment], "tags.drone_cbf.stage = 'compare'", max_results=1)[0]
    assert failed.info.status == "FAILED" and failed.data.tags["drone_cbf.failure"] in shown
    artifacts = {file.path for file in MlflowClient().list_artifacts(failed.info.run_id)}
    assert artifacts <= {"config.yaml"}, "nothing half-written"
    return shown


def test_bad_input_is_one_line_with_the_remedy(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = MlflowClient().get_experiment(experiment).name
    lonely = policy(experiment, "default", 0)
    broken = record(experiment, "safety", {"seed": 1}, failure="loss/total became nan")
    MlflowClient().set_terminated(broken, "FAILED")
    foreign = MlflowClient().create_run(experiment).info.run_id
    empty = mlflow.create_experiment(f"empty-{experiment}")
    assert empty
    wanted = {
        ("--runs=nothing",): "run 'nothing' was not found in sqlite",
        (
            f"--runs={lonely}",
        ): f"has no finished evaluation; evaluate first: mlflow run . -e evaluate -P parent_run={lonely}",
        (f"--runs={broken}",): f"run {broken} (safety) is FAILED (loss/total became nan); repeat it, or name another",
        (f"--runs={foreign}",): "is no run of this project; name a run of efficiency, pretrain_cbf, safety",
        (f"--runs={lonely},{lonely}",): "twice; name each of them once",
        (): "runs and experiment are both missing; give one: -P runs=<id>,<id> or -P experiment=<name>",
        (f"--runs={lonely}", f"--experiment={name}"): "runs and experiment are both given",
        (f"--runs={lonely}", "--filter=x = 1"): "filter goes with experiment",
        ("--experiment=nowhere",): "experiment = nowhere does not exist in sqlite",
        (f"--experiment=empty-{experiment}",): f"experiment empty-{experiment} holds no run of a stage",
        (f"--experiment={name}", "--filter=nonsense"): "filter = nonsense is refused by MLflow",
        (f"--experiment={name}", "--filter=tags.drone_cbf.curriculum = 'default'"): "has a finished evaluation",
        ("--physics.lag_time=0.1",): "unknown parameter 'physics.lag_time'",
    }
    for arguments, message in wanted.items():
        assert message in refusal(experiment, capsys, *arguments)


def test_the_same_experiment_named_twice_is_refused(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [policy(experiment, "default", 0), policy(experiment, "default", 0)]
    for run_id in runs:
        evaluation(experiment, run_id, 0.9)
    told = refusal(experiment, capsys, f"--runs={','.join(runs)}")
    assert "are both of default, seed 0; an interval over seeds would count one policy twice" in told


def test_one_policy_flown_in_other_models_is_a_row_for_each(experiment: str) -> None:
    """The transfer table: model trained x model flown; ``strict`` does not take them for one policy counted twice."""
    trained = safety_run(experiment)
    as_trained = evaluate_run(experiment, trained, {"eval/success_rate": 0.99})
    flown = []
    for physics in (PhysicsConfig(model="attitude"), PhysicsConfig(model="quadrotor", airframe="racing")):
        system = SYSTEM.model_copy(update={"physics": physics})
        flown.append(evaluate_run(experiment, trained, {"eval/success_rate": 0.9}, system=system))
    rows = rows_of(compare(f"--runs={','.join([as_trained, *flown])}"), "summary.csv")
    found = {row["group"]: float(row["success_rate_mean"]) for row in rows}
    name = next(iter(found))
    assert found == {name: 0.99, f"{name}, flown as attitude": 0.9, f"{name}, flown as quadrotor racing": 0.9}
