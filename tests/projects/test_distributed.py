"""A training divided among processes: the figures of one process with as many devices, and a state that any can use."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.checkpoints.store import load_checkpoint
from drone_cbf.tracking.runs.resuming import latest_progress
from drone_cbf.tracking.runs.tracking_store import prepare_store
from projects.running.launch import launch
from tests.projects.small_pipeline import ROOT, environment_of_runs
from tests.projects.test_sweep import wait
from tests.stores import tracking

ROUNDING = 1e-4
"""Relative, as for populations: sums over four devices are rounded in another order where two belong to each process.
Measured: see docs/scaling.md."""
LONGEST = 900
GIVEN = {
    "steps": "4", "batch": "8", "horizon": "20", "report_flights": "8", "scenes": "random_cloud",
    "policy.features": "16", "barrier.features": "8", "checkpoint_every": "1",
}  # fmt: skip


def start(folder: Path, given: Mapping[str, str], settings: Mapping[str, str]) -> subprocess.Popen[str]:
    """One process of an efficiency training."""
    command = [sys.executable, "-m", "projects.efficiency", *(f"--{name}={text}" for name, text in given.items())]
    environment = {**environment_of_runs({}), "PYTHONPATH": str(ROOT), **settings}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def start_two(folder: Path, store: str, given: Mapping[str, str]) -> list[subprocess.Popen[str]]:
    """Two processes of two devices each; the second has neither a store nor parameters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    (folder / "other").mkdir()
    return [
        start(folder, given, {**shared, "JAX_PROCESS_ID": "0", "MLFLOW_TRACKING_URI": store}),
        start(folder / "other", {}, {**shared, "JAX_PROCESS_ID": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}),
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each has printed, once all have ended."""
    try:
        return [process.communicate(timeout=LONGEST)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def alone(folder: Path, store: str, given: Mapping[str, str]) -> str:
    """The output of one process of four devices."""
    process = start(folder, given, {"JAX_NUM_CPU_DEVICES": "4", "MLFLOW_TRACKING_URI": store})
    said = process.communicate(timeout=LONGEST)[0]
    assert process.returncode == 0, said
    return said


def trainings() -> list[Run]:
    return MlflowClient().search_runs(["0"], order_by=["attributes.start_time ASC"])


@pytest.mark.slow
def test_two_processes_learn_what_one_with_as_many_devices_learns(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with tracking(store):
        prepare_store()
        processes = start_two(tmp_path, store, GIVEN)
        said = ended(processes)
        assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
        assert list((tmp_path / "other").iterdir()) == [], "process 0 alone writes"
        alone(tmp_path, store, GIVEN)
        divided, whole = trainings()
        assert "process 1 has done its part" in said[1]
        assert divided.data.tags["drone_cbf.device"] == f"{whole.data.tags['drone_cbf.device']} in 2 processes"
        assert_equal(divided, whole)


@pytest.mark.slow
def test_where_one_process_is_killed_the_other_ends_and_a_single_one_goes_on_from_their_state(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with tracking(store):
        prepare_store()
        processes = start_two(tmp_path, store, {**GIVEN, "steps": "200"})
        try:
            wait(lambda: bool(trainings()) and latest_progress(trainings()[0].info.run_id) is not None)
        finally:
            processes[0].kill()
        ended(processes)
        assert processes[1].returncode not in (0, None), "it does not wait for ever"
        (run,) = trainings()
        state = load_checkpoint(run.info.run_id, str(latest_progress(run.info.run_id)))
        assert 0 < state["step"] < 200
        said = alone(tmp_path, store, {"resume_run": run.info.run_id})
        (run,) = trainings()
    steps = [one.step for one in MlflowClient(store).get_metric_history(run.info.run_id, "loss/total")]
    assert run.info.status == "FINISHED" and steps == list(range(200)), said


def assert_equal(one: Run, other: Run) -> None:
    names = one.data.metrics.keys()
    assert names == other.data.metrics.keys() and {"loss/total", "grad_norm/policy", "final/success_rate"} <= names
    for name in names:
        both = [MlflowClient().get_metric_history(run.info.run_id, name) for run in (one, other)]
        pairs = zip(*([(point.step, point.value) for point in points] for points in both), strict=True)
        for (step, value), (same, expected) in pairs:
            assert step == same and value == pytest.approx(expected, rel=ROUNDING, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize("entry", ["pipeline", "evaluate"])
def test_what_cannot_be_divided_is_refused(
    experiment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:9")
    given = ["--parent_run=0123"] if entry == "evaluate" else []
    assert launch(entry, given) == 1
    assert "only a training of one seed can be divided among processes; unset it" in capsys.readouterr().err
    (run,) = MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED"
