"""A store that does not exist yet, used by many processes at once: nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs import tracking_store
from tests.stores import tracking

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
STEPS = 20
PREPARE = "-m drone_cbf.tracking.runs.tracking_store"


def start_and_log(folder: Path, number: int, start: Any) -> None:
    """What each process does: nothing is there before, all begin at the same moment."""
    from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
    from drone_cbf.tracking.runs.stage_run import stage_run

    os.chdir(folder)
    start.wait()
    with stage_run(f"stage{number}", ROOT) as run:
        recorder = MlflowRecorder(run)
        for step in range(STEPS):
            recorder.metrics(step, {"loss/total": float(number), "step": float(step)})
        recorder.close()


@pytest.mark.parametrize("count", [3, pytest.param(PROCESSES, marks=pytest.mark.slow)])
def test_processes_that_begin_together_on_an_empty_folder_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    context = multiprocessing.get_context("forkserver")  # the long imports are done once
    context.set_forkserver_preload(
        ["drone_cbf.tracking.recording.mlflow_recorder", "drone_cbf.tracking.runs.stage_run"]
    )
    start = context.Barrier(count)
    processes = [context.Process(target=start_and_log, args=(tmp_path, n, start)) for n in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * count
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (found for found in client.search_experiments() if found.name == "drone_cbf")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {f"stage{number}" for number in range(count)}
    for run in runs:
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "step")
        assert [entry.value for entry in sorted(history, key=lambda entry: entry.step)] == list(range(STEPS))


@pytest.mark.slow
def test_eight_plain_mlflow_runs_that_begin_together_after_the_set_up_all_finish(tmp_path: Path) -> None:
    assert PREPARE in (ROOT / "tools" / "setup.sh").read_text()
    (tmp_path / "MLproject").write_text("name: p\nentry_points:\n  main:\n    command: 'true'\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, *PREPARE.split()], cwd=tmp_path, env=kept, check=True, timeout=120)
    command = [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local"]

    def begin(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300)

    with ThreadPoolExecutor(PROCESSES) as pool:
        results = list(pool.map(begin, range(PROCESSES)))
    assert [result.returncode for result in results] == [0] * PROCESSES, results[0].stderr
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    assert [run.info.status for run in runs] == ["FINISHED"] * PROCESSES


def test_installing_the_package_changes_no_other_program() -> None:
    """An entry point is how an installed package changes what MLflow does everywhere in the environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not {"entry-points", "scripts", "gui-scripts"} & project.keys()


def test_a_new_store_is_the_one_that_mlflow_would_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours, theirs = tmp_path / "new folder" / "mlflow.db", tmp_path / "theirs.db"
    with tracking(f"sqlite:///{ours}?timeout=60"):
        tracking_store.prepare_store()
        before = ours.read_bytes()
        tracking_store.prepare_store()
    assert ours.read_bytes() == before, "a store that is there is left alone"
    assert {file.name for file in ours.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    (mine,), (plain,) = (MlflowClient(f"sqlite:///{file}").search_experiments() for file in (ours, theirs))
    assert (mine.name, mine.artifact_location) == (plain.name, plain.artifact_location)


def test_a_lock_that_is_never_released_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "LOCK_TIMEOUT", 0.05)
    with FileLock(tmp_path / "mlflow.db.lock"), tracking(f"sqlite:///{tmp_path}/mlflow.db"):
        with pytest.raises(DroneCbfError, match=r"mlflow.db is locked for more than .* delete .*mlflow.db.lock"):
            tracking_store.prepare_store()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_created_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with tracking(f"sqlite:///{tmp_path}/file/mlflow.db"):
        with pytest.raises(DroneCbfError, match=r"file/mlflow.db cannot be created \(.*\); .* set MLFLOW_TRACKING_URI"):
            tracking_store.prepare_store()


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://", "http://127.0.0.1:1", "postgresql://x/y"])
def test_only_a_sqlite_file_is_created(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    tracking_store.prepare_store()
    assert not list(tmp_path.iterdir())
