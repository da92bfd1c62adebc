"""A suite that was stopped and is started again: what it takes over, goes on with, trains anew, and where that lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import projects.workflows.children
from drone_cbf.tracking.queries.selection import MEMBERS_FILE
from drone_cbf.tracking.runs.stage_run import stage_run
from projects.running.stage_runner import Stage
from projects.workflows.suite_children import Children
from projects.workflows.suite_tasks import Member, Task
from tests.projects.toy_stage import TOY, toy_project

ENDINGS = ("", "stopped", "killed", "killed early")
"""How the child of that place ends in the first suite; the last place is not reached."""
TASKS = [Task(TOY, {"steps": str(6 + place), "failure": failure}) for place, failure in enumerate((*ENDINGS, ""))]


@dataclass(frozen=True)
class Suites:
    """A suite that did not get to its end, and what the same one did when it was started again."""

    first: str
    """Run ID."""
    began: list[Member]
    second: str
    """Run ID."""
    members: list[Member]

    def run(self, place: int) -> Run:
        """What stands for the task at ``place`` in the end."""
        member = self.members[place]
        assert member.run is not None
        return MlflowClient().get_run(member.run.run_id)


ASKED = SimpleNamespace(reuse=True, population="auto", workers=1)


def suite(tasks: list[Task]) -> tuple[str, list[Member]]:
    """A suite of ``tasks``; its run ID and what became of them."""
    with stage_run("suite", Path(__file__).resolve().parents[2]) as run:
        stage = cast(Stage, SimpleNamespace(run=run, parameters=ASKED))
        children = Children(stage, tasks)
        return run.run_id, [children.run(task, None) for task in tasks]


@pytest.fixture
def suites(experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suites:
    monkeypatch.setattr(projects.workflows.children, "ROOT", toy_project(tmp_path, monkeypatch))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    first, began = suite(TASKS[: len(ENDINGS)])
    killed = began[2].run
    assert killed is not None
    MlflowClient().update_run(killed.run_id, status="RUNNING")  # as if all had been killed at once
    return Suites(first, began, *suite(TASKS))


@pytest.mark.slow
def test_a_suite_started_again_skips_what_has_finished_goes_on_with_what_was_interrupted_and_trains_the_rest(
    suites: Suites, experiment: str
) -> None:
    assert [member.state for member in suites.began] == ["trained", "failed", "failed", "failed"]
    assert [member.state for member in suites.members] == ["reused", "resumed", "resumed", "trained", "trained"]
    for place in range(len(TASKS)):
        run = suites.run(place)
        assert run.info.status == "FINISHED" and run.data.params["steps"] == TASKS[place].parameters["steps"]
        steps = [metric.step for metric in MlflowClient().get_metric_history(run.info.run_id, "loss/total")]
        assert steps == list(range(6 + place)), "every update once, also of a child that was resumed"
    ids = [member.run.run_id for member in suites.began if member.run]
    same = [run_id == suites.run(place).info.run_id for place, run_id in enumerate(ids)]
    assert same == [True, True, True, False], "without a state to go on from it is a run of its own"

    parents = [suites.run(place).data.tags["mlflow.parentRunId"] for place in range(len(TASKS))]
    assert parents == [suites.first] * 3 + [suites.second] * 2, "a child lies under the suite that began it"
    listed = json.loads(mlflow.artifacts.load_text(f"runs:/{suites.second}/{MEMBERS_FILE}"))["members"]
    assert [row["run_id"] for row in listed] == [suites.run(place).info.run_id for place in range(len(TASKS))]
    note = MlflowClient().get_run(suites.second).data.tags["mlflow.note.content"]
    assert all(row["run_id"] in note for row in listed), "the second suite's page leads to all of them"
    everything = MlflowClient().search_runs([experiment])
    assert len(everything) == 2 + len(TASKS) + 1, "two suites, their children, and the one that left no state"
