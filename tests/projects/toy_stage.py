"""A stage that learns nothing, in a moment: for tests of what every stage shares."""

from __future__ import annotations

import os
import sys

import jax.numpy as jnp
from pydantic import Field

from drone_cbf.config import Section
from drone_cbf.errors import TrainingError
from projects.running import EntryPoint, Outcome, Stage, run_stage


class ToyParameters(Section):
    """Counts."""

    steps: int = Field(3, ge=1, le=10)
    """Updates."""
    failure: str = ""
    """How to fail: user, crash, interrupt, or once: in the middle, unless the run is gone on with."""
    resume_run: str = ""
    """ID of an interrupted run."""


class ToyFollowerParameters(ToyParameters):
    """Counts on."""

    parent_run: str = Field(min_length=1)
    """ID of a finished toy run."""


TOY = EntryPoint("toy", ToyParameters)
FOLLOWER = EntryPoint("follower", ToyFollowerParameters, parents=("toy", "follower"))


def work(stage: Stage) -> Outcome:
    first = int(stage.recorder.restore({"step": 0})["step"])
    stage.recorder.begin("toy", stage.parameters.steps, first)
    for step in range(first, stage.parameters.steps):
        stage.recorder.metrics(step, {"loss/total": 1.0 / (step + 1)})
        if step % 2:
            stage.recorder.progress(step + 1, {"step": step + 1})
        if stage.parameters.failure == "once" and step == 4 and not first:
            raise TrainingError("loss/total became nan at step 4; lower learning_rate")
    if stage.parameters.failure == "user":
        raise TrainingError("loss/total became nan at step 3; lower learning_rate")
    if stage.parameters.failure == "crash":
        raise RuntimeError("unforeseen\nproblem")
    if stage.parameters.failure == "interrupt":
        os.kill(os.getpid(), 15)
    stage.recorder.event(1, "half way")
    stage.recorder.checkpoint(stage.parameters.steps, {"policy": {"weight": jnp.ones((2, 3))}}, "final")
    return Outcome("### Toy\n\n| a | b |\n|---|---|\n| 1 | 2 |", provides=("policy",))


if __name__ == "__main__":
    sys.exit(run_stage(FOLLOWER if sys.argv[1:2] == ["follower"] else TOY, work, sys.argv[2:]))
