"""Watches a trial while it trains: reports the monitor's figures to the study, and stops a trial that lags behind."""

from __future__ import annotations

import math
import threading

import optuna

from drone_cbf.tracking.queries.records import Record, history, nested, read
from drone_cbf.tracking.runs.processes import end_process
from drone_cbf.tracking.tags import PROCESS_TAG

INTERVAL = 2.0
"""Between two looks at what the trial has recorded [s]; a stage stores its figures about every 5 s."""
REPORTING = "safety"
"""The stage whose figures are reported: its monitor measures while it trains."""


class TrialWatch:
    """A thread that runs while the trial's stages do; ``stopped_at``: the step at which it has stopped the trial."""

    def __init__(self, trial: optuna.Trial, run_id: str, metric: str) -> None:
        self.stopped_at: int | None = None
        self._trial, self._run_id, self._metric = trial, run_id, metric
        self._reported: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="trial", daemon=True)

    def __enter__(self) -> TrialWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                self._look()
            except Exception as error:  # the store may be busy; without a figure the trial just goes on
                print(f"trial {self._trial.number}: its figures could not be read ({error})", flush=True)

    def _look(self) -> None:
        running = [run for run in nested(read(self._run_id)) if run.stage == REPORTING and run.status == "RUNNING"]
        if running and self._report(running[-1]) and self._trial.should_prune():
            self.stopped_at = self.stopped_at or max(self._reported)
        if running and self.stopped_at is not None:  # again and again: at first the stage may not listen yet
            end_process(running[-1].tags.get(PROCESS_TAG, ""))

    def _report(self, run: Record) -> bool:
        """Reports what is new; whether anything is."""
        rows = {int(row["step"]): row[self._metric] for row in history(run.run_id, [self._metric])}
        new = {step: value for step, value in rows.items() if step not in self._reported and math.isfinite(value)}
        for step, value in new.items():
            self._trial.report(value, step)
            print(f"trial {self._trial.number}: {self._metric} {value:.4g} at step {step}", flush=True)
        self._reported |= new.keys()
        return bool(new)
