"""What a person at the terminal sees while a stage learns."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Tree = TypeVar("Tree")

SHOWN = {
    "loss/total": "loss",
    "train/success_rate": "success",
    "train/collision_rate": "collision",
    "filter/relax_rate": "relaxed",
    "curriculum/blend": "blend",
}
"""Figures beside the bar, where a stage reports them."""
AS_SET = {"curriculum/blend"}
"""Figures that are settings, not measurements: shown as they are."""
SMOOTHING = 0.9
"""Share of the past in the figures shown: single updates jump too much to be read."""


@dataclass(frozen=True)
class _Mean:
    """Running mean that forgets; a value that is not a number shows once and is forgotten at the next."""

    total: float = 0.0
    weight: float = 0.0

    @property
    def value(self) -> float:
        return self.total / self.weight

    def updated(self, value: float) -> _Mean:
        known = self.total == self.total
        total = SMOOTHING * self.total if known else 0.0
        weight = SMOOTHING * self.weight if known else 0.0
        return _Mean(total + (1.0 - SMOOTHING) * value, weight + (1.0 - SMOOTHING))


class ProgressRecorder:
    """A progress bar with live figures; where stderr is no terminal, one line at every tenth of the work."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._description = ""
        self._total = 0
        self._done = 0
        self._reported = 0
        self._before = 0
        self._last_step: int | None = None
        self._started = time.monotonic()
        self._figures: dict[str, _Mean] = {}

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        if description == self._description:
            self._extend(total_steps)
        else:
            self._start(description, total_steps, done)

    def _extend(self, total_steps: int) -> None:
        """The phase under way has become longer or shorter."""
        self._total = total_steps
        self._reported = self._done * 10 // max(total_steps, 1)
        if self._bar is not None:
            self._bar.update(self._task, total=total_steps)

    def _start(self, description: str, total_steps: int, done: int) -> None:
        self._stop()
        self._description, self._total, self._done = description, total_steps, done
        self._reported, self._before = done * 10 // max(total_steps, 1), done
        self._started = time.monotonic()
        self._last_step, self._figures = None, {}
        if self._console.is_terminal:
            self._bar = self._new_bar()
            self._task = self._bar.add_task(description, total=total_steps, completed=done, figures="")
            self._bar.start()
        else:
            resumed = f", {done} of them done before" if done else ""
            text = f"{description}: {total_steps} steps{resumed}"
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        advance = int(step != self._last_step)  # a step may report in several parts
        self._done, self._last_step = self._done + advance, step
        for name, label in SHOWN.items():
            if name in values:
                mean = _Mean() if name in AS_SET else self._figures.get(label, _Mean())
                self._figures[label] = mean.updated(values[name])
        if self._bar is not None:
            self._bar.update(self._task, advance=advance, figures=self._text())
        elif self._total and self._done * 10 // self._total > self._reported:
            self._reported = self._done * 10 // self._total
            self._console.print(
                f"{self._description}: {self._done}/{self._total}  {self._text()}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def checkpoint(self, step: int, tree: Any, name: str) -> None:
        """Nothing to show."""

    def progress(self, step: int, tree: Any) -> None:
        """Nothing to show."""

    def restore(self, tree: Tree) -> Tree:
        return tree

    def flights(self, step: int, measured: Any, noise: float) -> None:
        """Nothing to show."""

    def event(self, step: int, text: str) -> None:
        self._console.print(f"step {step}: {text}", highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar; the terminal is as before."""
        self._stop()

    def _new_bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
        )
        return Progress(*columns, console=self._console, refresh_per_second=4)

    def _text(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)
        figures = [f"{label} {mean.value:.3g}" for label, mean in self._figures.items()]
        return "  ".join([*figures, f"{rate:.2g} steps/s"])

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
