"""The recorder of a training stage that writes to its MLflow run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import unflatten_dict

from drone_cbf.recorder import SilentRecorder, Tree
from drone_cbf.tracking.checkpoints.packages import to_leaves
from drone_cbf.tracking.checkpoints.store import load_checkpoint, match, save_checkpoint
from drone_cbf.tracking.recording.background_writer import BackgroundWriter
from drone_cbf.tracking.runs.resuming import PROGRESS, delete_progress, latest_progress
from drone_cbf.tracking.runs.stage_run import StageRun

BETWEEN_STATES = 60.0  # Shortest time between stored states [s]: storing one keeps a core busy for a tenth of a second


class MlflowRecorder(SilentRecorder):
    """Writes metrics, checkpoints and events to a run from a background thread, unless the run holds them already.

    Of the states to resume from it stores the first, and later ones at least ``between_states`` seconds apart, one at
    a time.
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
            delete_progress(self._run.run_id, keep=name)
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
