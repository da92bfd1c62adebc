"""Stores metrics in batches and runs uploads in a background thread, so that training does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError

PER_CALL = 1000  # Largest number of metrics that one ``log_batch`` accepts
INTERVAL = 5.0
"""Seconds between two batches: each costs as much as a hundred metrics, and processor time of the training."""


class BackgroundWriter:
    """Stores metrics about every ``interval`` seconds and starts other uploads immediately, in order.

    A failure in the background is raised by the next call, at the latest by ``close``; nothing is accepted after it.
    """

    def __init__(self, run_id: str, client: MlflowClient | None = None, interval: float = INTERVAL) -> None:
        self._run_id, self._client, self._interval = run_id, client or MlflowClient(), interval
        self._metrics: list[Metric] = []
        self._jobs: list[Callable[[], None]] = []
        self._error: BaseException | None = None
        self._lock, self._wake, self._closing = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Accepts the metrics of one step; non-finite values are stored as they are."""
        self._raise_error()
        now = int(time.time() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in values.items()]
        with self._lock:
            self._metrics += rows

    def submit(self, job: Callable[[], None]) -> None:
        """Runs ``job`` in the background, after everything that was accepted before."""
        self._raise_error()
        with self._lock:
            self._jobs.append(job)
        self._wake.set()

    def close(self) -> None:
        """Stores the rest, then ends the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if isinstance(self._error, DroneCbfError):
            raise self._error
        if self._error is not None:
            reason = " ".join(str(self._error).split())
            message = f"metrics could not be stored ({reason}); check the tracking store, then repeat the run"
            raise DroneCbfError(message) from self._error

    def _work(self) -> None:
        try:
            while not self._closing:
                self._wake.wait(self._interval)
                self._wake.clear()
                self._store()
            self._store()
        except BaseException as error:  # raised in the calling thread
            self._error = error

    def _store(self) -> None:
        with self._lock:
            metrics, self._metrics = self._metrics, []
            jobs, self._jobs = self._jobs, []
        for start in range(0, len(metrics), PER_CALL):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + PER_CALL])
        for job in jobs:
            job()
