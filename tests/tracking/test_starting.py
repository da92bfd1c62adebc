"""A run is begun in a store that is there and a folder that can be written, and never over what was recorded."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError, LineageError
from drone_cbf.tracking.folders import check_writable
from drone_cbf.tracking.runs.presentation import mark_dry_run
from drone_cbf.tracking.runs.stage_run import stage_run
from drone_cbf.tracking.runs.tracking_store import require_store, store_place
from tests.stores import tracking

PROJECT = Path(__file__).resolve().parents[2]
FINISHED = "finished efficiency run"


@pytest.mark.parametrize("held", [FINISHED, "interrupted run", "metrics", "artifacts"])
def test_a_run_that_holds_anything_is_not_begun_again(
    experiment: str, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    client = MlflowClient()
    tags = {"drone_cbf.stage": "efficiency"} if "run" in held else {}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    if held == "metrics":
        client.log_metric(run_id, "loss", 1.0)
    if held == "artifacts":
        client.log_text(run_id, "kept", "note.txt")
    client.set_terminated(run_id, "FAILED" if held == "interrupted run" else "FINISHED")
    before = client.get_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(LineageError, match=f"run {run_id} .* is not written over; unset MLFLOW_RUN_ID"):
        with stage_run("efficiency", PROJECT):
            raise AssertionError("begun")
    after = client.get_run(run_id)
    assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)
    assert after.data.tags == before.data.tags


def test_a_dry_run_does_not_rename_a_finished_run(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"drone_cbf.stage": "suite", "mlflow.project.entryPoint": "suite"}
    run = MlflowClient().create_run(experiment, tags=tags, run_name="mine")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    mark_dry_run("suite", "a plan")
    assert MlflowClient().get_run(run.info.run_id).info.run_name == "mine"


def test_a_new_run_names_stage_and_process_from_its_first_moment(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = MlflowClient.create_run
    seen = []
    monkeypatch.setattr(MlflowClient, "create_run", lambda *a, **k: seen.append(k["tags"]) or created(*a, **k))
    with stage_run("toy", PROJECT):
        pass
    assert {"drone_cbf.stage", "drone_cbf.process"} <= seen[0].keys()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sqlite:///mlflow.db", r"MLFLOW_TRACKING_URI = sqlite:///mlflow.db is relative to .*give the whole path"),
        ("sqlite:///{folder}/none/mlflow.db", "set MLFLOW_TRACKING_URI to the store that holds it"),
    ],
)
def test_a_run_is_looked_for_in_no_new_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = given.format(folder=tmp_path)
    with tracking(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(
            DroneCbfError, match=f"parent_run abc cannot be found: there is no store {tmp_path}.*{told}"
        ):
            with stage_run("toy", PROJECT, needs="parent_run abc"):
                raise AssertionError("begun")
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        with pytest.raises(DroneCbfError, match=f"run {'0' * 32} cannot be found: there is no store"):
            with stage_run("toy", PROJECT):
                raise AssertionError("begun")
        monkeypatch.delenv("MLFLOW_RUN_ID")
        with pytest.raises(DroneCbfError, match="resume_run abc cannot be found"):
            with stage_run("toy", PROJECT, resume="abc"):
                raise AssertionError("begun")
    assert list(tmp_path.iterdir()) == [], "no stray store"


def test_messages_name_the_whole_path_of_a_relative_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tracking("sqlite:///mlflow.db"):
        assert store_place() == f"sqlite:///{tmp_path}/mlflow.db"
    with tracking("http://127.0.0.1:9"):
        assert store_place() == "http://127.0.0.1:9"
        require_store("anything")  # a server is asked


def test_artifacts_that_would_go_to_a_folder_of_the_servers_are_refused_before_any_work(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drone_cbf.tracking.folders.mlflow.get_tracking_uri", lambda: "http://server:5000")
    with pytest.raises(DroneCbfError, match="cannot be stored in /proc/mlflow.*--serve-artifacts"):
        check_writable("abc", "/proc/mlflow/1/abc/artifacts")
    check_writable("abc", "mlflow-artifacts:/1/abc/artifacts")
    check_writable("abc", "s3://bucket/1/abc/artifacts")


def test_a_run_whose_artifact_folder_cannot_be_written_fails_in_one_line(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = MlflowClient().create_experiment(f"{experiment}-unwritable", artifact_location="/proc/mlflow/1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    with pytest.raises(DroneCbfError, match="cannot be stored in /proc/mlflow/1/.*make that folder writable") as caught:
        with stage_run("toy", PROJECT):
            raise AssertionError("begun")
    (run,) = MlflowClient().search_runs([other])
    assert (run.info.status, run.data.tags["drone_cbf.failure"]) == ("FAILED", str(caught.value))


def test_what_is_checked_leaves_nothing_behind(experiment: str) -> None:
    with stage_run("toy", PROJECT) as run:
        folder = Path(urlparse(MlflowClient().get_run(run.run_id).info.artifact_uri).path)
        assert os.listdir(folder) == []
