"""The first use of a fresh store: many processes at once, nothing lost."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs import first_use

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
STEPS = 20


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


def test_eight_processes_that_begin_together_on_an_empty_folder_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    context = multiprocessing.get_context("forkserver")  # the long imports are done once
    context.set_forkserver_preload(
        ["drone_cbf.tracking.recording.mlflow_recorder", "drone_cbf.tracking.runs.stage_run"]
    )
    start = context.Barrier(PROCESSES)
    processes = [context.Process(target=start_and_log, args=(tmp_path, n, start)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (found for found in client.search_experiments() if found.name == "drone_cbf")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {f"stage{number}" for number in range(PROCESSES)}
    for run in runs:
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "step")
        assert [entry.value for entry in sorted(history, key=lambda entry: entry.step)] == list(range(STEPS))


@pytest.mark.slow
def test_eight_plain_mlflow_runs_that_begin_together_on_an_empty_folder_all_finish(tmp_path: Path) -> None:
    (tmp_path / "MLproject").write_text("name: p\nentry_points:\n  main:\n    command: python start.py\n")
    (tmp_path / "start.py").write_text("import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('x', 1.0)\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    command = [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local"]

    def begin(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300)

    with ThreadPoolExecutor(PROCESSES) as pool:
        results = list(pool.map(begin, range(PROCESSES)))
    assert [result.returncode for result in results] == [0] * PROCESSES, results[0].stderr
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"x": 1.0})] * PROCESSES


def test_mlflow_itself_opens_sqlite_files_through_the_lock() -> None:
    (found,) = entry_points(group="mlflow.tracking_store", name="sqlite")
    assert found.load() is first_use.open_sqlite_store


def test_a_lock_that_is_never_released_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "PATIENCE", 0.05)
    refused = pytest.raises(DroneCbfError, match=r"mlflow.db was not free within .* delete .*mlflow.db.lock")
    with FileLock(tmp_path / "mlflow.db.lock"), refused:
        first_use.open_sqlite_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://", "sqlite:////no/such/folder/mlflow.db"])
def test_what_is_no_file_of_an_existing_folder_is_not_locked(uri: str) -> None:
    with first_use.first_use(uri):
        pass
    assert not Path("/no").exists()
