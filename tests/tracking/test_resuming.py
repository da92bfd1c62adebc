"""What an interrupted run holds, and which runs there is nothing to go on with."""

from __future__ import annotations

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError
from drone_cbf.tracking.recorder import MlflowRecorder
from drone_cbf.tracking.resuming import (
    Stored,
    check_resumable,
    latest_progress,
    process_name,
    progress_names,
    read_stored,
)
from drone_cbf.tracking.runs import StageRun
from drone_cbf.tracking.tags import CONFIG_FILE, PROCESS_TAG, STAGE_TAG


def interrupted(
    experiment: str, status: str = "FAILED", stage: str = "toy", config: bool = True, process: str = ""
) -> str:
    client = MlflowClient()
    run_id = client.create_run(experiment, tags={STAGE_TAG: stage, PROCESS_TAG: process}).info.run_id
    if config:
        client.log_text(run_id, "parameters: {}", CONFIG_FILE)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def ended_process() -> str:
    """Name of a process that is no more."""
    code = "from drone_cbf.tracking.resuming import process_name; print(process_name())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_failed_killed_or_dead_run_can_be_gone_on_with(experiment: str, status: str) -> None:
    check_resumable(interrupted(experiment, status, process=ended_process()), "toy")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"status": "FINISHED"}, "has finished: there is nothing to resume; start a new run"),
        (
            {"status": "RUNNING", "process": "this"},
            r"is still running \(process \d+ on .*wait for it, or end that process",
        ),
        (
            {"status": "RUNNING", "process": "process 7 on elsewhere since 0"},
            r"is said to run on another machine \(process 7",
        ),
        ({"stage": "safety"}, "is a run of stage safety, not of toy; resume it with -e safety"),
        ({"config": False}, "was interrupted before it stored config.yaml; start a new run"),
    ],
)
def test_a_run_that_cannot_be_gone_on_with_is_refused_with_the_reason(
    experiment: str, run: dict[str, str], message: str
) -> None:
    given = {**run, "process": process_name()} if run.get("process") == "this" else run
    run_id = interrupted(experiment, **given)  # type: ignore[arg-type]
    with pytest.raises(LineageError, match=f"resume_run {run_id} {message}"):
        check_resumable(run_id, "toy")


def test_only_the_latest_complete_state_is_kept_and_given_back(run: StageRun) -> None:
    recorder = MlflowRecorder(run)
    fresh = {"weight": jnp.zeros(2), "step": 0}
    assert recorder.restore(fresh) is fresh
    recorder.progress(9, {"weight": jnp.ones(2), "step": 9})
    recorder.progress(10, {"weight": jnp.full(2, 5.0), "step": 10})
    recorder.close()
    assert progress_names(run.run_id) == ["progress_10"]
    restored = MlflowRecorder(run).restore(fresh)
    np.testing.assert_array_equal(restored["weight"], 5.0)
    assert restored["step"] == 10
    MlflowClient().log_text(run.run_id, "half", "checkpoints/progress_11/data")
    assert latest_progress(run.run_id) == "progress_10", "a state without its manifest was interrupted on its way"


def test_what_is_stored_is_not_stored_again_and_what_is_missing_is(run: StageRun) -> None:
    first = MlflowRecorder(run)
    first.metrics(0, {"loss/total": 3.0})
    first.metrics(1, {"loss/total": 2.0, "eval/success_rate": 0.5})
    first.event(1, "half way")
    first.close()
    stored = read_stored(run.run_id)
    assert stored.last_steps == {"loss/total": 1, "eval/success_rate": 1}
    assert stored.rows[1] == {"step": 1.0, "loss/total": 2.0, "eval/success_rate": 0.5}
    assert stored.events == [(1, "half way")]

    again = MlflowRecorder(StageRun(run.run_id, run.experiment_id, run.stage, stored))
    again.metrics(1, {"loss/total": 2.0, "loss/late": 7.0})
    again.event(1, "half way")
    again.metrics(2, {"loss/total": 1.0})
    again.event(2, "done")
    again.close()
    client = MlflowClient()
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "loss/total")] == [
        (0, 3.0),
        (1, 2.0),
        (2, 1.0),
    ]
    assert [m.step for m in client.get_metric_history(run.run_id, "loss/late")] == [1]
    assert read_stored(run.run_id).events == [(1, "half way"), (2, "done")]


def test_a_new_run_holds_nothing() -> None:
    assert Stored().beyond(0, {"a": 1.0}) == {"a": 1.0}
