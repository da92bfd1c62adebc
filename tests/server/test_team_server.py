"""The recipe of docs/team-server.md: PostgreSQL, proxied artifacts, basic auth, and the project's own commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.checkpoints.store import load_checkpoint
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
from drone_cbf.tracking.runs.resuming import progress_names
from drone_cbf.tracking.runs.stage_run import stage_run
from tests.projects.small_pipeline import ROOT, SMALL, STAGES, mlflow_run, stored_runs
from tests.projects.trained import evaluated
from tests.stores import tracking
from tools.team_server import TeamServer, missing, team_server

USER, OTHER_USER, PASSWORD = "ada", "grace", "a colleague's password"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    with team_server() as started:
        yield started


@pytest.fixture(scope="module")
def colleague(server: TeamServer) -> Iterator[dict[str, str]]:
    """The environment of an ordinary user whom the administrator has let in; this process works as that user."""
    # The store of before is noted before the variables name the server: nobody after these tests may look for it.
    with tracking(server.uri), pytest.MonkeyPatch.context() as patch:
        for name, text in server.environment().items():
            patch.setenv(name, text)
        for user in (USER, OTHER_USER):
            get_app_client("basic-auth", server.uri).create_user(user, PASSWORD)
        environment = server.environment(USER, PASSWORD)
        for name, text in environment.items():
            patch.setenv(name, text)
        yield environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: TeamServer, colleague: dict[str, str]) -> Path:
    """Where the colleague has run the pipeline."""
    place = tmp_path_factory.mktemp("colleague")
    result = mlflow_run(place, "pipeline", SMALL, colleague)
    assert result.returncode == 0, result.stdout + result.stderr
    return place


def test_the_same_pipeline_finishes_on_the_server_and_leaves_nothing_in_the_folder(
    folder: Path, server: TeamServer
) -> None:
    runs = stored_runs(server.uri)
    assert set(runs) == {*STAGES, "pipeline"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.info.user_id for run in runs.values()} and runs["evaluate"].data.metrics["eval/success_rate"] >= 0.0
    assert list(folder.iterdir()) == [], "no mlflow.db, no mlruns"


def test_artifacts_go_through_the_server(folder: Path, server: TeamServer) -> None:
    run = stored_runs(server.uri)["safety"]
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert "margin" in load_checkpoint(run.info.run_id, "final")
    assert "figures" in {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}


def test_the_evaluated_policy_is_registered_promoted_by_a_colleague_and_loaded_from_the_server(
    folder: Path, server: TeamServer, colleague: dict[str, str], tmp_path: Path
) -> None:
    barely_trained = stored_runs(server.uri)["safety"].info.run_id
    trained, evaluation = evaluated("0")
    for run in (barely_trained, evaluation):
        registered = mlflow_run(tmp_path, "register", {"run": run}, colleague)
        assert registered.returncode == 0, registered.stdout + registered.stderr
    refused = mlflow_run(tmp_path, "gate", {"run": barely_trained, "promote": "true"}, colleague)
    assert refused.returncode != 0 and "does not pass" in refused.stderr
    other = server.environment(OTHER_USER, PASSWORD)
    passed = mlflow_run(tmp_path, "gate", {"run": evaluation, "promote": "true"}, other)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert (
        MlflowClient().get_model_version_by_alias("drone-policy", "champion").tags["drone_cbf.training_run"] == trained
    )
    model = mlflow.pyfunc.load_model("models:/drone-policy@champion")
    answer = model.predict(model.input_example)
    assert np.isfinite(answer["command"]).all()


def test_a_colleague_keeps_progress_and_resumes_in_an_experiment_of_somebody_else(
    server: TeamServer, colleague: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()
    with pytest.MonkeyPatch.context() as other:
        for name, text in server.environment(OTHER_USER, PASSWORD).items():
            other.setenv(name, text)
        experiment = client.create_experiment("somebody else's")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with pytest.raises(ValueError, match="interrupted"), stage_run("efficiency", ROOT) as run:
        run.log_config({"stage": "efficiency"})
        recorder = MlflowRecorder(run)
        for step in (1, 2):
            recorder.progress(step, {"step": np.float32(step)})
        recorder.close(interrupted=True)
        raise ValueError("interrupted")
    assert progress_names(run.run_id) == ["progress_2"], "the older one was deleted"
    with stage_run("efficiency", ROOT, resume=run.run_id) as again:
        assert MlflowRecorder(again).restore({"step": np.float32(0)}) == {"step": 2.0}
    found = client.search_runs([experiment])
    assert [(each.info.run_id, each.info.status) for each in found] == [(run.run_id, "FINISHED")]


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_one_clear_line_before_any_work(tmp_path: Path, server: TeamServer, password: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "projects.efficiency", "--steps=1"],
        cwd=ROOT, env={**os.environ, **server.environment(USER, password)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("efficiency failed: ") and "MLFLOW_TRACKING_PASSWORD" in line and server.uri in line


def test_nobody_reads_without_a_password(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MlflowException, match="401|not authenticated"):
        MlflowClient(server.uri).search_experiments()


def test_the_recipe_starts_the_server_as_the_tested_one() -> None:
    text = (ROOT / "docs" / "team-server.md").read_text()
    source = (ROOT / "tools" / "team_server.py").read_text() + (ROOT / "tools" / "servers.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', source)) - {"--init-groups", "--no-sync"}
    settings = set(re.findall(r'"(MLFLOW_[A-Z_]+)"', source)) - {"MLFLOW_"}
    assert {"--app-name", "--serve-artifacts"} <= options and "MLFLOW_AUTH_CONFIG_PATH" in settings
    assert [name for name in (*options, *settings) if name not in text] == []
