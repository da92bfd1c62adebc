"""A disk that fills up, or becomes read-only, under a run: it stops in one line, and goes on once that is mended."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.recording.mlflow_recorder import BackgroundWriter
from drone_cbf.tracking.runs.tracking_store import prepare_store
from tests.projects.counting_stage import FIRST, CountingParameters, following
from tests.stores import tracking

ROOT = Path(__file__).resolve().parents[2]
STEPS = CountingParameters().steps


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small file system of its own with a store on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a file system")
    monkeypatch.chdir(folder)  # where the first experiment keeps its artifacts
    try:
        with tracking(f"sqlite:///{folder}/mlflow.db"):
            prepare_store()
            yield folder
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", "--lazy", folder], check=True)


def start(folder: Path, *arguments: str, store: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The counting stage, in ``folder`` with the store there, or with the one that the variables of ``store`` name."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    path = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    settings = {"PYTHONPATH": path, **(store or {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"})}
    command = [sys.executable, "-m", "tests.projects.counting_stage", *arguments]
    return subprocess.Popen(command, cwd=folder, env={**kept, **settings}, stderr=subprocess.PIPE, text=True)


def begun(process: subprocess.Popen[str]) -> str:
    """The run, once it has a state to go on from."""
    from drone_cbf.tracking.runs.resuming import latest_progress

    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        found = MlflowClient().search_runs([e.experiment_id for e in MlflowClient().search_experiments()])
        if found and latest_progress(found[0].info.run_id):
            return found[0].info.run_id
        time.sleep(0.05)
    raise AssertionError("no state was stored")


def assert_whole(run_id: str) -> None:
    truth = list(itertools.accumulate(range(STEPS), lambda value, _: following(value), initial=FIRST))[1:]
    history = MlflowClient().get_metric_history(run_id, "loss/total")
    assert [(metric.step, metric.value) for metric in history] == list(enumerate(truth)), "neither gaps nor duplicates"
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_run_stops_clean_on_a_faulty_disk_and_has_every_row_once_in_the_end(disk: Path, fault: str) -> None:
    process = start(disk)
    run_id = begun(process)
    filler, artifacts = disk / "filler", disk / "mlruns"
    if fault == "full":
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"0" * 4096)
                except OSError:
                    break
    else:
        for options in (["--bind"], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, artifacts, artifacts], check=True)
    told = process.communicate(timeout=180)[1]
    assert process.returncode == 1 and "Traceback" not in told, told
    meaning = "the disk is full: free some room" if fault == "full" else "read-only: make it writable"
    assert "counting failed: " in told and meaning in told, told
    if fault == "full":
        filler.unlink()
    else:
        subprocess.run(["umount", artifacts], check=True)
    again = start(disk, f"--resume_run={run_id}")
    told = again.communicate(timeout=180)[1]
    assert again.returncode == 0, told
    assert_whole(run_id)


class SlowClient:
    """A server that takes its time for every call."""

    def __init__(self) -> None:
        self.stored: list[float] = []

    def log_batch(self, run_id: str, metrics: list[object]) -> None:
        time.sleep(0.05)
        self.stored += [metric.value for metric in metrics]  # type: ignore[attr-defined]


def test_a_slow_server_is_not_waited_for_by_the_training_and_gets_every_row_once() -> None:
    client = SlowClient()
    writer = BackgroundWriter("abc", client, interval=0.01)  # type: ignore[arg-type]
    for step in range(3000):
        writer.metrics(step, {"loss/total": float(step)})
    writer.close()
    assert client.stored == [float(step) for step in range(3000)]
