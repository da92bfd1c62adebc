from __future__ import annotations

import math
import threading
import time

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.recording.mlflow_recorder import PER_CALL, BackgroundWriter
from drone_cbf.tracking.runs.stage_run import StageRun


class CountingClient:
    """Counts the batches in place of a store."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.batches: list[list[Metric]] = []
        self.failure = failure

    def log_batch(self, run_id: str, metrics: list[Metric]) -> None:
        if self.failure is not None:
            raise self.failure
        self.batches.append(metrics)


def test_every_figure_of_every_step_is_stored_non_finite_ones_as_they_are(run: StageRun) -> None:
    writer = BackgroundWriter(run.run_id, interval=0.05)
    for step in range(700):
        writer.metrics(step, {"loss/total": float(step), "filter/relax_rate": 0.0})
    writer.metrics(700, {"loss/total": math.nan, "grad_norm/policy": math.inf})
    writer.close()
    client = MlflowClient()
    history = client.get_metric_history(run.run_id, "loss/total")
    assert sorted(m.step for m in history) == list(range(701))
    assert math.isnan(next(m.value for m in history if m.step == 700))
    assert client.get_metric_history(run.run_id, "grad_norm/policy")[0].value > 1e308  # how MLflow stores infinity


def test_no_batch_exceeds_what_mlflow_accepts_and_nothing_is_lost() -> None:
    client = CountingClient()
    writer = BackgroundWriter("any", client, interval=60.0)  # type: ignore[arg-type]
    for step in range(2500):
        writer.metrics(step, {"a": 1.0})
    writer.close()
    assert [len(batch) for batch in client.batches] == [PER_CALL, PER_CALL, 500]


def test_handing_over_does_not_wait_for_a_slow_store() -> None:
    writer = BackgroundWriter("any", CountingClient(), interval=0.01)  # type: ignore[arg-type]
    release = threading.Event()
    writer.submit(lambda: release.wait(10.0) and None)
    time.sleep(0.05)
    start = time.perf_counter()
    writer.metrics(0, {"a": 1.0})
    assert time.perf_counter() - start < 1.0, "far below the 10 s that the store is busy"
    release.set()
    writer.close()


def test_an_upload_does_not_wait_for_the_next_batch_and_comes_after_the_figures_before_it() -> None:
    client, uploaded = CountingClient(), threading.Event()
    writer = BackgroundWriter("any", client, interval=3600.0)  # type: ignore[arg-type]
    writer.metrics(0, {"a": 1.0})
    stored: list[int] = []
    writer.submit(lambda: stored.append(len(client.batches)) or uploaded.set())  # type: ignore[func-returns-value]
    assert uploaded.wait(30.0) and stored == [1]
    writer.close()


def test_a_failure_in_the_background_surfaces_at_the_next_call_and_at_the_end() -> None:
    writer = BackgroundWriter("any", CountingClient(OSError("disk full")), interval=0.01)  # type: ignore[arg-type]
    writer.metrics(0, {"a": 1.0})
    deadline = time.monotonic() + 10.0
    with pytest.raises(DroneCbfError, match=r"could not be stored \(disk full\); check the tracking store"):
        while time.monotonic() < deadline:
            writer.metrics(1, {"a": 1.0})
            time.sleep(0.01)
    with pytest.raises(DroneCbfError, match="disk full"):
        writer.close()
