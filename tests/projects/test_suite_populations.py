"""A suite trains the seeds of a curriculum at once: what it starts, what it goes on with, and what each seed has."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.records import read
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.cli.stage_parameters import SuiteParameters
from projects.running.stage_runner import Stage
from projects.workflows import children as carrying_out
from projects.workflows import suite
from projects.workflows.suite_children import Children
from projects.workflows.suite_tasks import Member, suite_tasks
from tests.projects.stored_children import INTERRUPTED, StoredChildren


def new_run(experiment: str) -> StageRun:
    run_id = MlflowClient().create_run(experiment, tags={"drone_cbf.stage": "suite"}).info.run_id
    return StageRun(run_id, experiment, "suite")


@pytest.fixture
def run(experiment: str) -> StageRun:
    return new_run(experiment)


@pytest.fixture
def children(experiment: str, monkeypatch: pytest.MonkeyPatch) -> StoredChildren:
    found = StoredChildren(experiment)
    monkeypatch.setattr(carrying_out, "run_child", found.run_child)
    monkeypatch.setattr(suite, "prepare_for_children", lambda: None)
    monkeypatch.setattr("projects.comparison.comparison.compare", lambda *a, **k: "compared")
    return found


def a_suite(run: StageRun, tmp_path: Path, **asked: object) -> Stage:
    """Stage of a suite, with settings that no other test shares."""
    places = []
    for name in ("one", "two"):
        places.append(str(tmp_path / f"{name}.yaml"))
        Path(places[-1]).write_text(f"name: {name}\nstages: [{{name: a, steps: 5, blend: 0.5}}]\n")
    parameters = SuiteParameters(
        **{"curricula": tuple(places), "seeds": (3, 5), "shared_seed": int(run.experiment_id), **asked}
    )
    return cast(Stage, SimpleNamespace(run=run, parameters=parameters, given_system={}, parent=None))


def started(children: StoredChildren) -> list[tuple[str, str]]:
    """Entry point and seeds of every child."""
    seeds = [given.get("resume_run") or given.get("seeds") or given.get("seed", "") for _, given in children.given]
    return list(zip([entry for entry, _ in children.given], seeds, strict=True))


def listed(run: StageRun) -> list[dict[str, str]]:
    return json.loads(mlflow.artifacts.load_text(f"runs:/{run.run_id}/suite.json"))["members"]


def test_the_seeds_of_a_curriculum_are_one_child_and_each_has_its_own_run_and_evaluation(
    run: StageRun, children: StoredChildren, tmp_path: Path
) -> None:
    suite.work(a_suite(run, tmp_path, curricula=("fast",)))
    shared = run.experiment_id
    assert [one for one in started(children) if one[0] != "evaluate"] == [
        ("efficiency", shared), ("pretrain_cbf", shared), ("safety", "3,5"),
    ]  # fmt: skip
    trained = {row["seed"]: read(row["run_id"]) for row in listed(run) if row["stage"] == "safety"}
    assert {seed: (one.seed, one.stage) for seed, one in trained.items()} == {3: (3, "safety"), 5: (5, "safety")}
    measured = [given["parent_run"] for entry, given in children.given if entry == "evaluate"]
    assert sorted(measured) == sorted(one.run_id for one in trained.values()), "each seed is evaluated by itself"
    children.given.clear()
    suite.work(a_suite(new_run(run.experiment_id), tmp_path, curricula=("fast",), population="off"))
    assert children.given == [], "members are taken for what their seeds would have trained alone"


@pytest.mark.parametrize(
    ("asked", "together"),
    [
        ({}, ["3,5"]),
        ({"population": "off"}, ["3", "5"]),
        ({"workers": 2}, ["3,5"]),
        ({"workers": 3}, ["3", "5"]),
        ({"seeds": tuple(range(9))}, ["0,1,2,3,4", "5,6,7,8"]),
        ({"seeds": (3,)}, ["3"]),
    ],
)
def test_how_the_seeds_of_a_curriculum_are_divided(
    run: StageRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], together: list[str]
) -> None:
    monkeypatch.setattr(Children, "plan", lambda self, task, parent_run: Member(task, "planned"))
    stage = a_suite(run, tmp_path, **asked)
    tasks = suite_tasks(stage.parameters, {})
    children, found = Children(stage, tasks), []
    for task in tasks:
        done = [member.task for member in children.members]
        if task.entry.name == "safety" and task.curriculum == "one" and task not in done:
            job = children.job(task, None)
            found.append(",".join(str(one.seed) for one in job.tasks))
            assert all(one.curriculum == "one" and one.entry.name == "safety" for one in job.tasks)
            children.members += [Member(one, "trained") for one in job.tasks]
    assert found == together


@pytest.mark.slow
def test_a_seed_that_fails_leaves_out_its_evaluation_alone_and_is_trained_again_alone(
    run: StageRun, children: StoredChildren, tmp_path: Path
) -> None:
    children.ends = {("safety", 5): "loss/total became nan"}
    with pytest.raises(suite.SuiteIncomplete) as caught:
        suite.work(a_suite(run, tmp_path))
    assert str(caught.value).startswith("1 of 10 children failed, 1 left out: safety one seed 5 (run ")
    assert "loss/total became nan" in str(caught.value)
    assert sum(entry == "evaluate" for entry, _ in children.given) == 3
    children.given.clear()
    suite.work(a_suite(new_run(run.experiment_id), tmp_path))
    assert started(children)[0] == ("safety", "5") and [entry for entry, _ in children.given[1:]] == ["evaluate"]


def test_an_interrupted_population_goes_on_as_one_with_what_is_missing(
    run: StageRun, children: StoredChildren, tmp_path: Path
) -> None:
    children.ends = {("safety", 3): INTERRUPTED, ("safety", 5): INTERRUPTED}
    with pytest.raises(suite.SuiteIncomplete):
        suite.work(a_suite(run, tmp_path, curricula=("fast",)))
    (population,) = MlflowClient().search_runs([run.experiment_id], "tags.`drone_cbf.stage` = 'population'")
    assert population.info.status == "KILLED"
    children.given.clear()
    again = new_run(run.experiment_id)
    suite.work(a_suite(again, tmp_path, curricula=("fast",), seeds=(3, 5, 6)))
    assert [one for one in started(children) if one[0] == "safety"] == [
        ("safety", population.info.run_id), ("safety", "6"),
    ]  # fmt: skip
    states = [row["state"] for row in listed(again) if row["stage"] == "safety"]
    assert states == ["resumed", "resumed", "trained"]


@pytest.mark.slow
def test_of_a_population_with_further_seeds_only_those_asked_for_go_on(
    run: StageRun, children: StoredChildren, tmp_path: Path
) -> None:
    children.ends = {("safety", 3): INTERRUPTED, ("safety", 5): INTERRUPTED}
    with pytest.raises(suite.SuiteIncomplete):
        suite.work(a_suite(run, tmp_path, curricula=("fast",)))
    interrupted = MlflowClient().search_runs([run.experiment_id], "tags.`drone_cbf.stage` = 'safety'")
    (third,) = [one.info.run_id for one in interrupted if one.data.params["seed"] == "3"]
    children.given.clear()
    suite.work(a_suite(new_run(run.experiment_id), tmp_path, curricula=("fast",), seeds=(3,)))
    assert started(children)[0] == ("safety", third)
