"""The recorder of a training stage, which writes to its MLflow run from a background thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax.traverse_util import unflatten_dict
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.recorder import SilentRecorder, Tree
from drone_cbf.tracking.checkpoints.packages import to_leaves
from drone_cbf.tracking.checkpoints.store import load_checkpoint, match, save_checkpoint
from drone_cbf.tracking.runs.resuming import PROGRESS, delete_progress, latest_progress
from drone_cbf.tracking.runs.stage_run import StageRun
from drone_cbf.tracking.runs.store_trouble import store_trouble

PER_CALL = 1000  # Largest number of metrics that one ``log_batch`` accepts
INTERVAL = 5.0  # Seconds between two batches: each costs the training as much processor time as a hundred metrics
BETWEEN_STATES = 60.0  # Shortest time between stored states [s]: storing one keeps a core busy for a tenth of a second


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
            reason = store_trouble(self._error) or " ".join(str(self._error).split())
            message = f"metrics could not be stored ({reason}); check the tracking store, then resume the run"
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


class MlflowRecorder(SilentRecorder):
    """Writes metrics, checkpoints and events to a run from a background thread, unless the run holds them already.

    Of the states to resume from it stores the first, and later ones at least ``between_states`` seconds apart, one at
    a time.
    """

    def __init__(self, run: StageRun, between_states: float = BETWEEN_STATES) -> None:
        self._run, self._writer, self._between_states = run, BackgroundWriter(run.run_id), between_states
        self._waiting: tuple[str, dict[str, Any]] | None = None  # Name and content of the latest state until stored
        self._is_storing, self._stored_at = False, -math.inf
        self.events: list[tuple[int, str]] = list(run.stored.events)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        # MLflow's compare page opens with the metric that was logged first: one that says something, not one that is 0.
        ordered = dict(sorted(values.items(), key=lambda item: item[0].startswith("grad_health/")))
        self._writer.metrics(step, self._run.stored.new_values(step, ordered))

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        copy = unflatten_dict(to_leaves(tree))
        self._writer.submit(lambda: save_checkpoint(self._run.run_id, name, copy))

    def progress(self, step: int, tree: Any) -> None:
        self._waiting = (f"{PROGRESS}{step}", unflatten_dict(to_leaves(tree)))
        if not self._is_storing and time.monotonic() >= self._stored_at + self._between_states:
            self._store_waiting()

    def _store_waiting(self) -> None:
        if self._waiting is None:
            return
        (name, copy), self._waiting, self._is_storing = self._waiting, None, True

        def store() -> None:
            save_checkpoint(self._run.run_id, name, copy)
            if trouble := delete_progress(self._run.run_id, keep=name):
                self.event(int(name.removeprefix(PROGRESS)), trouble)
            self._stored_at, self._is_storing = time.monotonic(), False

        self._writer.submit(store)

    def restore(self, tree: Tree) -> Tree:
        name = latest_progress(self._run.run_id)
        what = f"checkpoint '{name}' of run {self._run.run_id}"
        return match(tree, load_checkpoint(self._run.run_id, name), what) if name else tree

    def event(self, step: int, text: str) -> None:
        if (step, text) in self.events:  # a repeated step of a resumed run
            return
        self.events.append((step, text))
        page = events_page(self.events)
        self._writer.submit(lambda: self._run.log_text(page, "events.md"))

    def close(self, interrupted: bool = False) -> None:
        """Waits until everything is stored, with ``interrupted`` the latest state as well; raises what went wrong."""
        try:
            if interrupted:
                self._store_waiting()
        finally:
            self._writer.close()


def events_page(events: Sequence[tuple[int, str]]) -> str:
    """The events as a Markdown list."""
    return "\n".join(f"- step {step}: {text}" for step, text in events) + "\n"
