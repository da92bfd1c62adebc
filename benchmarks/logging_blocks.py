"""Blocks of real training that log and that do not, in turns: what logging costs with all that it hinders.

A logged block counts until all of it is stored, and its recorder is new: it stores the first state that it is offered,
oftener than in a whole run. The machine's own noise is of several percent, so many pairs are needed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from drone_cbf.recorder import Recorder, SilentRecorder
from drone_cbf.reporting.trials import interval
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
from drone_cbf.tracking.runs.stage_run import StageRun


class Finished(Exception):
    """Enough is measured: ends the training."""


class Alternating(SilentRecorder):
    """A recorder that forgets and logs in turns, and times its blocks; the first block warms up and is not counted."""

    def __init__(self, run: StageRun, block: int, pairs: int) -> None:
        self._run, self._block, self._pairs = run, block, pairs
        self._logged: MlflowRecorder | None = None
        self._started = 0.0
        self.times: dict[bool, list[float]] = {False: [], True: []}
        """Logged or not -> seconds of each block."""
        self._turns = 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._logged is not None:
            self._logged.metrics(step, values)
        if step and step % self._block == 0:  # the state after the step before is of the block that ends
            self._turn()

    def progress(self, step: int, tree: Any) -> None:
        if self._logged is not None:
            self._logged.progress(step, tree)

    def event(self, step: int, text: str) -> None:
        if self._logged is not None:
            self._logged.event(step, text)

    def _turn(self) -> None:
        """A block has ended, the next one begins."""
        logged = self._logged is not None
        if self._logged is not None:
            self._logged.close()
        if self._turns:
            self.times[logged].append(time.perf_counter() - self._started)
            print(f"  block {self._turns}/{2 * self._pairs}: {self.times[logged][-1]:.2f} s", file=sys.stderr)
        if self._turns == 2 * self._pairs:
            raise Finished
        self._turns += 1
        # Off, on, on, off: a drift of the machine's speed falls on both alike.
        self._logged = MlflowRecorder(self._run) if self._turns % 4 in (2, 3) else None
        self._started = time.perf_counter()


def block_ratios(train: Callable[[Recorder], object], run: StageRun, block: int, pairs: int) -> np.ndarray:
    """(pairs,) Time of each logged block of ``block`` updates over that of the one beside it."""
    recorder = Alternating(run, block, pairs)
    with suppress(Finished):
        train(recorder)
    off, on = (np.array(recorder.times[logged]) for logged in (False, True))
    return on / off


def interval_text(ratios: np.ndarray) -> str:
    """What logging adds: mean and 95 % interval (Student's t on the logarithms)."""
    logs = interval(np.log(ratios))
    mean, low, high = (math.expm1(logs.mean + side * logs.half_width) for side in (0.0, -1.0, 1.0))
    return f"{mean:+.1%} ({low:+.1%} to {high:+.1%}, n = {len(ratios)})"
