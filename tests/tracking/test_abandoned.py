"""A run whose process is gone does not stay RUNNING for ever: the next start ends it and says how to go on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs import abandoned
from drone_cbf.tracking.runs.abandoned import mark_abandoned
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.runs.stage_run import StageRun, stage_run
from projects.running.hints import tell_abandoned

PROJECT = Path(__file__).resolve().parents[2]
DEAD = f"process 1 on {socket.gethostname()} since boot-earlier-tick-1"


def running(experiment: str, process: str = DEAD, stage: str = "toy", **tags: str) -> str:
    given = {"drone_cbf.process": process, "drone_cbf.stage": stage, **tags}
    return MlflowClient().create_run(experiment, tags={key: text for key, text in given.items() if text}).info.run_id


def status(run_id: str) -> str:
    return MlflowClient().get_run(run_id).info.status


def test_only_a_run_whose_process_is_known_to_be_gone_is_ended_with_the_reason(experiment: str) -> None:
    dead, elsewhere = running(experiment), running(experiment, "process 7 on elsewhere since 0")
    alive, foreign = running(experiment, process_name()), running(experiment, "")
    finished = running(experiment)
    MlflowClient().set_terminated(finished)
    ended = [run.info.run_id for run in mark_abandoned("") if run.info.experiment_id == experiment]
    assert ended == [dead]
    found = MlflowClient().get_run(dead)
    assert (found.info.status, found.data.tags["drone_cbf.failure"]) == ("KILLED", f"interrupted ({DEAD} is gone)")
    assert [status(run_id) for run_id in (elsewhere, alive, foreign)] == ["RUNNING"] * 3
    assert status(finished) == "FINISHED"


def test_a_run_that_another_process_is_just_taking_over_is_left_to_it(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = running(experiment)
    state_of, looks = abandoned.state_of, []

    def taken_over_after_the_first_look(process: str) -> str:
        looks.append(process)
        if len(looks) == 1:
            MlflowClient().set_tag(run_id, "drone_cbf.process", process_name())
        return state_of(process)

    monkeypatch.setattr(abandoned, "state_of", taken_over_after_the_first_look)
    mark_abandoned("")
    assert status(run_id) == "RUNNING"


def test_a_run_that_only_stood_in_for_one_that_was_to_be_resumed_is_removed(experiment: str) -> None:
    stand_in = running(experiment, stage="")
    assert mark_abandoned("") == []
    assert MlflowClient().get_run(stand_in).info.lifecycle_stage == "deleted"


def test_a_prepared_run_whose_stage_never_began_is_ended_unless_a_process_was_given_it(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, awaited = (running(experiment, "", "", **{"mlflow.project.entryPoint": "toy"}) for _ in range(2))
    monkeypatch.setattr(abandoned, "_given_runs", lambda: None)
    mark_abandoned("")
    assert status(lost) == "RUNNING", "an 'mlflow run' is still preparing: which run is not known"
    monkeypatch.setattr(abandoned, "_given_runs", lambda: {awaited})
    mark_abandoned("")
    assert (status(lost), status(awaited)) == ("KILLED", "RUNNING")
    monkeypatch.setenv("MLFLOW_RUN_ID", lost)
    with stage_run("toy", PROJECT) as run:
        assert run.run_id == lost and "drone_cbf.failure" not in MlflowClient().get_run(lost).data.tags
    assert status(lost) == "FINISHED", "a judgement that was wrong is put right by the stage"


def test_what_this_process_was_given_is_seen() -> None:
    found = abandoned._given_runs()
    assert found is None or os.environ.get("MLFLOW_RUN_ID", "") in {*found, ""}


def test_the_next_start_says_how_to_go_on_with_the_workflow_not_with_its_children(
    experiment: str, run: StageRun, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient()
    pipeline = running(experiment, stage="pipeline")
    client.log_text(pipeline, "{}", "plan.json")
    child = running(experiment, **{"mlflow.parentRunId": pipeline})
    empty = running(experiment, stage="evaluate")
    tell_abandoned(run)
    shown = capsys.readouterr().err
    assert f"pipeline run {pipeline} was interrupted ({DEAD} is gone); resume it with: " in shown
    assert f"mlflow run . -e pipeline -P resume_run={pipeline}\n" in shown
    assert f"evaluate run {empty} was interrupted ({DEAD} is gone); nothing is stored to resume it from\n" in shown
    assert child not in shown and status(child) == "KILLED"
