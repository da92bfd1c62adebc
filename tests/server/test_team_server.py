"""The recipe of docs/team-server.md: PostgreSQL, proxied artifacts, basic auth, and the project's own commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.checkpoints import load_checkpoint
from tests.projects.small_pipeline import ROOT, SMALL, STAGES, mlflow_run, stored_runs
from tools.team_server import TeamServer, missing, team_server

USER, PASSWORD = "ada", "a colleague's password"

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
    with pytest.MonkeyPatch.context() as patch:
        for name, text in server.environment().items():
            patch.setenv(name, text)
        get_app_client("basic-auth", server.uri).create_user(USER, PASSWORD)
        environment = server.environment(USER, PASSWORD)
        for name, text in environment.items():
            patch.setenv(name, text)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(server.uri)
        yield environment
        mlflow.set_tracking_uri(before)


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


LENIENT = "gates:\n  - {metric: eval/collision_rate, at_most: 1.0}\n"
"""A policy that has seen three batches passes no real gate."""


def test_the_evaluated_policy_is_registered_promoted_through_the_gate_and_loaded_from_the_server(
    folder: Path, server: TeamServer, colleague: dict[str, str], tmp_path: Path
) -> None:
    trained = stored_runs(server.uri)["safety"].info.run_id
    registered = mlflow_run(tmp_path, "register", {"run": trained}, colleague)
    assert registered.returncode == 0, registered.stdout + registered.stderr
    refused = mlflow_run(tmp_path, "gate", {"run": trained, "promote": "true"}, colleague)
    assert refused.returncode != 0 and "does not pass" in refused.stderr
    gates = tmp_path / "lenient.yaml"
    gates.write_text(LENIENT)
    passed = mlflow_run(tmp_path, "gate", {"run": trained, "promote": "true", "gates": str(gates)}, colleague)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert MlflowClient().get_model_version_by_alias("drone-policy", "champion").tags["drone_cbf.training_run"] == trained
    files = mlflow.artifacts.download_artifacts("models:/drone-policy@champion", dst_path=str(tmp_path / "model"))
    assert (Path(files) / "MLmodel").is_file()


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_one_clear_line_before_any_work(
    tmp_path: Path, server: TeamServer, password: str
) -> None:
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
