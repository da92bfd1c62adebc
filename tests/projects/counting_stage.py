"""A stage that takes a few seconds, during which it can be killed: every figure hangs on all that came before."""

from __future__ import annotations

import sys
import time

import numpy as np
from pydantic import Field

from drone_cbf.config import Section
from projects.running.entry_points import EntryPoint
from projects.running.stage_runner import Outcome, Stage, run_stage

FIRST = 0.4


class CountingParameters(Section):
    """How far to count."""

    steps: int = Field(300, ge=1, le=1000)
    """Updates."""
    resume_run: str = ""
    """ID of an interrupted run."""


COUNTING = EntryPoint("counting", CountingParameters, device=False)


def following(value: float) -> float:
    """The logistic map: one bit that is wrong changes all that follows."""
    return 3.9 * value * (1.0 - value)


def work(stage: Stage) -> Outcome:
    state = stage.recorder.restore({"step": np.int64(0), "value": np.float64(FIRST)})
    first, value = int(state["step"]), float(state["value"])
    stage.recorder.begin("counting", stage.parameters.steps, first)
    for step in range(first, stage.parameters.steps):
        value = following(value)
        stage.recorder.metrics(step, {"loss/total": value})
        if (step + 1) % 3 == 0:
            stage.recorder.progress(step + 1, {"step": np.int64(step + 1), "value": np.float64(value)})
        if (step + 1) % 25 == 0:  # stored at once, and the figures before it: further than the state to go on from
            stage.recorder.event(step, f"at {value}")
        time.sleep(0.01)
    stage.recorder.checkpoint(stage.parameters.steps, {"value": np.float64(value)}, "final")
    return Outcome("### Counted")


if __name__ == "__main__":
    sys.exit(run_stage(COUNTING, work, sys.argv[1:]))
