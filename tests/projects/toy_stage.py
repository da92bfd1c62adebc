"""A stage that learns nothing, in a moment: for tests of what every stage shares."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from pydantic import Field

from drone_cbf.config import Section
from drone_cbf.errors import TrainingError
from drone_cbf.tracking.runs.resuming import latest_progress
from projects.running.entry_points import EntryPoint
from projects.running.stage_runner import Outcome, Stage, run_stage


class ToyParameters(Section):
    """Counts."""

    steps: int = Field(3, ge=1, le=10)
    """Updates."""
    failure: str = ""
    """How to fail: user, crash, interrupt, ctrl-c, or in the middle unless the run is resumed: once, stopped (SIGTERM),
    killed (SIGKILL, with a state to go on from), killed early (without one, the first time in a folder)."""
    resume_run: str = ""
    """ID of an interrupted run."""


class ToyFollowerParameters(ToyParameters):
    """Counts on."""

    parent_run: str = Field(min_length=1)
    """ID of a finished toy run."""


TOY_DEFAULTS = {name: field.default for name, field in ToyParameters.model_fields.items()}
KILLED_BEFORE = Path("killed_before")
ROOT = Path(__file__).resolve().parents[2]
TOY = EntryPoint("toy", ToyParameters)
FOLLOWER = EntryPoint("follower", ToyFollowerParameters, parents=("toy", "follower"))


def work(stage: Stage) -> Outcome:
    failure = stage.parameters.failure
    first = int(stage.recorder.restore({"step": 0})["step"])
    stage.recorder.begin("toy", stage.parameters.steps, first)
    for step in range(first, stage.parameters.steps):
        stage.recorder.metrics(step, {"loss/total": 1.0 / (step + 1)})
        if step % 2 and failure != "killed early":
            stage.recorder.progress(step + 1, {"step": step + 1})
        if step == 4 and not first:
            fail_in_the_middle(failure, stage)
    if failure == "user":
        raise TrainingError("loss/total became nan at step 3; lower learning_rate")
    if failure == "crash":
        raise RuntimeError("unforeseen\nproblem")
    if failure == "interrupt":  # Ctrl-C in a terminal is often followed by SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
    if failure == "ctrl-c":
        os.kill(os.getpid(), signal.SIGINT)
    stage.recorder.event(1, "half way")
    stage.recorder.checkpoint(stage.parameters.steps, {"policy": {"weight": jnp.ones((2, 3))}}, "final")
    return Outcome("### Toy\n\n| a | b |\n|---|---|\n| 1 | 2 |", provides=("policy",))


def toy_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in ``folder`` whose entry point ``toy`` is this stage, and what it needs to run as a child of tests."""
    words = " ".join(f"--{name}={{{name}}}" for name in ToyParameters.model_fields)
    parameters = "".join(f"\n      {name}: {{default: '{default}'}}" for name, default in TOY_DEFAULTS.items())
    command = f"python {ROOT}/tests/projects/toy_stage.py toy {words}"
    text = f"name: p\nentry_points:\n  toy:\n    parameters:{parameters}\n    command: {command}\n"
    (folder / "MLproject").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return folder


def fail_in_the_middle(failure: str, stage: Stage) -> None:
    if failure == "once":
        raise TrainingError("loss/total became nan at step 4; lower learning_rate")
    if failure == "stopped":
        os.kill(os.getpid(), signal.SIGTERM)
    if failure == "killed":
        while latest_progress(stage.run.run_id) is None:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    if failure == "killed early" and not KILLED_BEFORE.exists():
        KILLED_BEFORE.touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run_stage(FOLLOWER if sys.argv[1:2] == ["follower"] else TOY, work, sys.argv[2:]))
