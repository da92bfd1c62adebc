"""The recorder of a training stage that writes to its MLflow run, from a background thread: training does not wait."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.recorder import SilentRecorder
from drone_cbf.tracking.checkpoints.store import load_checkpoint, match, save_checkpoint, to_leaves, unflatten
from drone_cbf.tracking.runs.resuming import PROGRESS, delete_progress, latest_progress
from drone_cbf.tracking.runs.stage_run import StageRun

Tree = TypeVar("Tree")

PER_CALL = 1000
"""Largest number of metrics that one ``log_batch`` accepts."""
INTERVAL = 5.0
"""Seconds between two batches: each costs as much as a hundred metrics, and processor time of the training."""
BETWEEN_STATES = 60.0
"""Shortest time between stored states [s]: storing one keeps a core busy for a tenth of a second."""


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
        with self._lock:
            self._metrics += [Metric(key, float(value), now, step) for key, value in values.items()]

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
        if self._error is None:
            return
        if isinstance(self._error, DroneCbfError):
            raise self._error
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
            metrics, jobs, self._metrics, self._jobs = self._metrics, self._jobs, [], []
        for start in range(0, len(metrics), PER_CALL):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + PER_CALL])
        for job in jobs:
            job()


class MlflowRecorder(SilentRecorder):
    """Writes metrics, checkpoints and events to a run from a background thread, unless the run holds them already.

    States to resume from are stored at least ``between_states`` seconds apart, one at a time.
    """

    def __init__(self, run: StageRun, between_states: float = BETWEEN_STATES) -> None:
        self._run, self._writer, self._between_states = run, BackgroundWriter(run.run_id), between_states
        self._waiting: tuple[str, dict[str, Any]] | None = None
        """Name and content of the latest state until it is stored."""
        self._is_storing, self._stored_at = False, -math.inf
        self.events: list[tuple[int, str]] = list(run.stored.events)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        # MLflow's compare page opens with the metric that was logged first: one that says something, not one that is 0.
        ordered = dict(sorted(values.items(), key=lambda item: item[0].startswith("grad_health/")))
        self._writer.metrics(step, self._run.stored.new_values(step, ordered))

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        copy = unflatten(to_leaves(tree))
        self._writer.submit(lambda: save_checkpoint(self._run.run_id, name, copy))

    def progress(self, step: int, tree: Any) -> None:
        self._waiting = (f"{PROGRESS}{step}", unflatten(to_leaves(tree)))
        if not self._is_storing and time.monotonic() >= self._stored_at + self._between_states:
            self._store_waiting()

    def _store_waiting(self) -> None:
        if self._waiting is None:
            return
        (name, copy), self._waiting, self._is_storing = self._waiting, None, True

        def store() -> None:
            save_checkpoint(self._run.run_id, name, copy)
            delete_progress(self._run.run_id, keep=name)
            self._stored_at, self._is_storing = time.monotonic(), False

        self._writer.submit(store)

    def restore(self, tree: Tree) -> Tree:
        run_id = self._run.run_id
        name = latest_progress(run_id)
        return match(tree, load_checkpoint(run_id, name), f"checkpoint '{name}' of run {run_id}") if name else tree

    def event(self, step: int, text: str) -> None:
        if (step, text) not in self.events:  # a resumed run repeats some steps
            self.events.append((step, text))
            page = events_page(self.events)
            self._writer.submit(lambda: self._run.log_text(page, "events.md"))

    def close(self, interrupted: bool = False) -> None:
        """Waits until everything is stored, with ``interrupted`` the latest state as well; raises what went wrong."""
        with closing(self._writer):
            if interrupted:
                self._store_waiting()


def events_page(events: Sequence[tuple[int, str]]) -> str:
    """The events as a Markdown list."""
    return "\n".join(f"- step {step}: {text}" for step, text in events) + "\n"
