"""Killed at random moments, a run is resumed to the bits that it would have reached."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.checkpoints.store import FINAL, load_checkpoint
from drone_cbf.tracking.runs.resuming import progress_names, read_stored
from drone_cbf.tracking.tags import RESUMED_TAG
from tests.projects.counting_stage import FIRST, CountingParameters, following

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LIFE = 2.0
"""Up to so many seconds before each kill; all of the counting takes three."""


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """The stage in a process of its own, in the active store."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    command = [sys.executable, "-m", "tests.projects.counting_stage", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120.0
    while not condition():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_a_run_killed_at_random_moments_has_every_figure_once_and_ends_as_it_would_have(
    experiment: str, kills: int
) -> None:
    client, draw = MlflowClient(), random.Random(0)
    process = start()

    def has_settings() -> bool:
        found = client.search_runs([experiment])
        return bool(found) and any(file.path == "config.yaml" for file in client.list_artifacts(found[0].info.run_id))

    wait_for(has_settings, process)
    (run,) = client.search_runs([experiment])
    run_id = run.info.run_id
    for kill in range(1, kills + 1):
        time.sleep(draw.uniform(0.0, LONGEST_LIFE))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(f"--resume_run={run_id}")
        wait_for(lambda kill=kill: client.get_run(run_id).data.tags.get(RESUMED_TAG) == str(kill), process)
    assert process.wait(timeout=120) == 0

    steps = CountingParameters().steps
    truth = list(itertools.accumulate(range(steps), lambda value, _: following(value), initial=FIRST))[1:]
    history = client.get_metric_history(run_id, "loss/total")
    assert [(metric.step, metric.value) for metric in history] == list(enumerate(truth)), "neither gaps nor duplicates"
    events = [(step, f"at {truth[step]}") for step in range(24, steps, 25)]
    assert read_stored(run_id).events == events
    assert float(load_checkpoint(run_id, FINAL)["value"]) == truth[-1]
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run_id]
    assert client.get_run(run_id).info.status == "FINISHED" and progress_names(run_id) == []
