"""What a person at the terminal sees while a stage learns."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status

from drone_cbf.recorder import SilentRecorder

SHOWN = {"loss/total": "loss", "train/success_rate": "success", "train/collision_rate": "collision"}
SHOWN |= {"filter/relax_rate": "relaxed", "curriculum/blend": "blend"}
"""Figures beside the bar, where a stage reports them."""
AS_SET = {"curriculum/blend"}
"""Figures that are settings, not measurements: shown as they are."""
COMPILING = "compiling the first step"
MEASURED_BEFORE = "monitor/"
"""How figures begin that may be measured before the step of their number is done."""
SMOOTHING = 0.9
"""Share of the past in the figures shown: single updates jump too much to be read."""


class ProgressRecorder(SilentRecorder):
    """A progress bar with live figures; where stderr is no terminal, one line at every tenth of the work.

    Steps are counted by their numbers, so a stage may report every n-th one. Until the first is done the bar says that
    the stage compiles.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._status: Status | None = None
        self._description = ""
        self.total = 0
        """Steps of the phase; 0 before it begins."""
        self.done = 0
        """Steps that are finished."""
        self._first: tuple[int, float] | None = None
        """Steps done and time when the first new step was done: rates leave compiling out."""
        self._figures: dict[str, tuple[float, float]] = {}
        """Label -> weighted sum of the values so far, the latest the heaviest, and the sum of the weights."""

    def prepare(self, stage: str) -> None:
        """Shows that the stage loads and compiles, until its steps begin."""
        if self._console.is_terminal:
            self._status = self._console.status(f"{stage}: preparing and compiling")
            self._status.start()

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        self.total = total_steps
        if description == self._description:  # the phase under way has become longer or shorter
            if self._bar is not None:
                self._bar.update(self._task, total=total_steps)
            return
        self.close()
        self._description, self.done = description, done
        self._first, self._figures = None, {}
        if self._console.is_terminal:
            columns = ("{task.description}", BarColumn(bar_width=24), MofNCompleteColumn(), "{task.fields[figures]}")
            times = (TimeElapsedColumn(), TimeRemainingColumn(compact=True))
            self._bar = Progress(*columns, *times, console=self._console, refresh_per_second=4)
            self._task = self._bar.add_task(description, total=total_steps, completed=done, figures=COMPILING)
            self._bar.start()
        else:
            resumed = f", {done} of them done before" if done else ""
            self._print(f"{description}: {total_steps} steps{resumed}, {COMPILING}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if values and all(name.startswith(MEASURED_BEFORE) for name in values):
            return
        tenths = self._tenths()
        self.done = max(self.done, step + 1)
        self._first = self._first or (self.done, time.monotonic())
        for name, label in SHOWN.items():
            if name in values:
                total, weight = self._figures.get(label, (0.0, 0.0))
                if name in AS_SET or math.isnan(total):  # what is not a number shows once and is forgotten
                    total, weight = 0.0, 0.0
                total, weight = SMOOTHING * total, SMOOTHING * weight
                self._figures[label] = total + (1.0 - SMOOTHING) * values[name], weight + (1.0 - SMOOTHING)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, figures=self._text())
        elif self._tenths() > tenths:
            self._print(f"{self._description}: {self.done}/{self.total}  {self._text()}")

    def event(self, step: int, text: str) -> None:
        self._print(f"step {step}: {text}")

    def close(self) -> None:
        """Ends the bar; the terminal is as before."""
        for shown in (self._bar, self._status):
            if shown is not None:
                shown.stop()
        self._bar = self._status = None

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _tenths(self) -> int:
        return self.done * 10 // max(self.total, 1)

    def _text(self) -> str:
        figures = [f"{label} {total / weight:.3g}" for label, (total, weight) in self._figures.items()]
        before, since = self._first or (self.done, time.monotonic())
        if self.done > before:
            figures.append(f"{(self.done - before) / max(time.monotonic() - since, 1e-9):.2g} steps/s")
        return "  ".join(figures)
