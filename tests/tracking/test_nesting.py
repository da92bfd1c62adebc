from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.nesting import StageFailed, run_child
from drone_cbf.tracking.runs import StageRun

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose entry point ``toy`` is the toy stage."""
    command = f"python {ROOT}/tests/projects/toy_stage.py toy --steps={{steps}} --failure={{failure}}"
    parameters = "parameters:\n      steps: {type: int, default: 3}\n      failure: {type: string, default: ''}"
    (tmp_path / "MLproject").write_text(f"name: p\nentry_points:\n  toy:\n    {parameters}\n    command: {command}\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def test_a_child_is_nested_and_brings_its_metrics(run: StageRun, project: Path) -> None:
    child = run_child(run, project, "toy", {"steps": "2"})
    stored = MlflowClient().get_run(child.run_id)
    assert stored.data.tags["mlflow.parentRunId"] == run.run_id and stored.info.experiment_id == run.experiment_id
    assert (child.stage, child.status, child.metrics["loss/total"]) == ("toy", "FINISHED", 0.5)
    assert child.seconds > 0.0


def test_a_child_that_fails_is_named_with_its_run_and_reason(run: StageRun, project: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        run_child(run, project, "toy", {"failure": "user"})
    (child,) = MlflowClient().search_runs([run.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    assert child.info.status == "FAILED"
    expected = f"stage toy failed (run {child.info.run_id}): loss/total became nan at step 3; lower learning_rate"
    assert str(caught.value) == expected


def test_a_child_that_cannot_start_says_why(run: StageRun, project: Path) -> None:
    with pytest.raises(StageFailed, match="stage nonsense could not start: Could not find nonsense among entry points"):
        run_child(run, project, "nonsense", {})
