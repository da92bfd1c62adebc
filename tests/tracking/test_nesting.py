from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.nesting import StageFailed, run_child
from drone_cbf.tracking.runs.stage_run import StageRun, stage_run
from tests.projects.toy_stage import toy_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose entry point ``toy`` is the toy stage."""
    return toy_project(tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_child_is_nested_and_brings_its_metrics(run: StageRun, project: Path) -> None:
    child = run_child(run, project, "toy", {"steps": "2"})
    stored = MlflowClient().get_run(child.run_id)
    assert stored.data.tags["mlflow.parentRunId"] == run.run_id and stored.info.experiment_id == run.experiment_id
    assert (child.stage, child.status, child.metrics["loss/total"]) == ("toy", "FINISHED", 0.5)
    assert child.seconds > 0.0


@pytest.mark.slow
def test_a_child_that_fails_is_named_with_its_run_and_reason_and_so_when_it_is_resumed(
    run: StageRun, project: Path
) -> None:
    with pytest.raises(StageFailed) as caught:
        run_child(run, project, "toy", {"failure": "user"})
    (child,) = MlflowClient().search_runs([run.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    assert child.info.status == "FAILED"
    expected = f"stage toy failed (run {child.info.run_id}): loss/total became nan at step 3; lower learning_rate"
    assert str(caught.value) == expected
    with pytest.raises(StageFailed) as again:
        run_child(run, project, "toy", {"resume_run": child.info.run_id})
    assert str(again.value) == expected, "not by the run that was prepared for it"


@pytest.mark.slow
def test_an_interrupted_child_goes_on_in_its_own_run_which_stays_where_it_was(run: StageRun, project: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        run_child(run, project, "toy", {"steps": "6", "failure": "once"})
    first, experiment = caught.value.run_id, run.experiment_id
    assert first is not None and str(caught.value) == f"stage toy failed (run {first}): {caught.value.reason}"
    assert MlflowClient().get_run(first).data.tags["drone_cbf.failure"] == caught.value.reason != ""
    mlflow.end_run()
    with stage_run("toy", ROOT) as other:
        child = run_child(other, project, "toy", {"resume_run": first})
    assert (child.run_id, child.stage, child.status) == (first, "toy", "FINISHED") and child.seconds > 0.0
    assert child.metrics["loss/total"] == pytest.approx(1.0 / 6.0)
    assert MlflowClient().get_run(first).data.tags["mlflow.parentRunId"] == run.run_id
    found = {found.info.run_id for found in MlflowClient().search_runs([experiment])}
    assert found == {run.run_id, other.run_id, first}, "nothing is left of the run that was prepared"


@pytest.mark.slow
def test_mlflow_run_goes_on_in_the_interrupted_run_and_folds_the_one_it_prepared_under_it(
    run: StageRun, project: Path
) -> None:
    with pytest.raises(StageFailed) as caught:
        run_child(run, project, "toy", {"steps": "6", "failure": "once"})
    first = str(caught.value.run_id)
    settings = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": run.experiment_id}
    command = [sys.executable, "-m", "mlflow", "run", str(project), "-e", "toy", "--env-manager", "local"]
    command += ["-P", f"resume_run={first}"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = MlflowClient().get_run(first)
    assert stored.info.status == "FINISHED" and stored.data.tags["drone_cbf.resumed"] == "1"
    (folded,) = MlflowClient().search_runs([run.experiment_id], f"tags.`mlflow.parentRunId` = '{first}'")
    assert folded.data.tags["drone_cbf.resumes"] == first and folded.data.metrics == {}
    assert "drone_cbf.stage" not in folded.data.tags, "for tables and filters it is no run of a stage"


def test_a_child_that_cannot_start_says_why(run: StageRun, project: Path) -> None:
    with pytest.raises(StageFailed, match="stage nonsense could not start: Could not find nonsense among entry points"):
        run_child(run, project, "nonsense", {})
