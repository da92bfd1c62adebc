"""What an interrupted run holds, and which runs there is nothing to go on with."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.runs.resuming import (
    Stored,
    check_resumable,
    latest_progress,
    progress_names,
    read_stored,
)
from drone_cbf.tracking.runs.stage_run import StageRun
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


@functools.cache
def ended_process() -> str:
    """Name of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    process.communicate()
    return name


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
            r"may be running on another machine \(process 7",
        ),
        ({"stage": "safety"}, "is a run of stage safety, not of toy; resume it with -e safety"),
        ({"config": False}, "was interrupted before it stored config.yaml.*; start a new run"),
    ],
)
def test_a_run_that_cannot_be_gone_on_with_is_refused_with_the_reason(
    experiment: str, run: dict[str, str], message: str
) -> None:
    given = {**run, "process": process_name()} if run.get("process") == "this" else run
    run_id = interrupted(experiment, **given)  # type: ignore[arg-type]
    with pytest.raises(LineageError, match=f"resume_run {run_id} {message}"):
        check_resumable(run_id, "toy")


def state(step: int) -> dict[str, Any]:
    return {"weight": jnp.full(2, float(step)), "step": step}


def stored_after(recorder: MlflowRecorder, run: StageRun, step: int) -> list[str]:
    """Names of the stored states when all is done that followed from the offer of ``step``."""
    recorder.progress(step, state(step))
    recorder.event(step, "offered")  # stored last
    deadline = time.monotonic() + 60.0
    while (step, "offered") not in read_stored(run.run_id).events:
        assert time.monotonic() < deadline, "the writer does nothing"
        time.sleep(0.02)
    return progress_names(run.run_id)


def test_only_the_latest_complete_state_is_kept_and_given_back(run: StageRun) -> None:
    recorder = MlflowRecorder(run)
    fresh = state(0)
    assert recorder.restore(fresh) is fresh
    recorder.progress(9, state(9))
    recorder.progress(10, state(10))
    recorder.close(interrupted=True)
    assert progress_names(run.run_id) == ["progress_10"]
    restored = MlflowRecorder(run).restore(fresh)
    np.testing.assert_array_equal(restored["weight"], 10.0)
    assert restored["step"] == 10
    MlflowClient().log_text(run.run_id, "half", "checkpoints/progress_11/data")
    assert latest_progress(run.run_id) == "progress_10", "a state without its manifest was interrupted on its way"


def test_the_first_state_is_stored_at_once_those_that_follow_too_soon_only_if_the_stage_fails(run: StageRun) -> None:
    recorder = MlflowRecorder(run, between_states=3600.0)
    assert [stored_after(recorder, run, step) for step in (1, 2, 3)] == [["progress_1"]] * 3
    recorder.close()
    assert progress_names(run.run_id) == ["progress_1"], "what has finished needs no newer one"

    failing = MlflowRecorder(run, between_states=3600.0)
    assert [stored_after(failing, run, step) for step in (4, 5)] == [["progress_4"]] * 2
    failing.close(interrupted=True)
    assert progress_names(run.run_id) == ["progress_5"]


def test_a_newer_state_replaces_the_stored_one_when_time_has_passed(run: StageRun) -> None:
    recorder = MlflowRecorder(run, between_states=0.2)
    assert stored_after(recorder, run, 1) == ["progress_1"]
    time.sleep(0.2)
    assert stored_after(recorder, run, 2) == ["progress_2"]
    recorder.close()


def test_while_one_state_is_on_its_way_no_other_is_begun(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release, stored = threading.Event(), threading.Event(), []

    def slowly(run_id: str, name: str, tree: Any) -> None:
        begun.set()
        release.wait(30.0)
        stored.append((name, tree["step"].item()))

    monkeypatch.setattr("drone_cbf.tracking.recording.mlflow_recorder.save_checkpoint", slowly)
    recorder = MlflowRecorder(run, between_states=0.0)
    recorder.progress(1, state(1))
    assert begun.wait(30.0)
    for step in (2, 3, 4):
        recorder.progress(step, state(step))
    release.set()
    recorder.close(interrupted=True)
    assert stored == [("progress_1", 1), ("progress_4", 4)], "a slow store gets the latest, not a queue of old ones"


def test_the_figures_before_a_state_are_stored_before_it(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that is killed between the two would go on with a gap."""
    held: list[dict[str, float]] = []

    def look(run_id: str, name: str, tree: Any) -> None:
        held.append(dict(read_stored(run_id).last_steps))

    monkeypatch.setattr("drone_cbf.tracking.recording.mlflow_recorder.save_checkpoint", look)
    recorder = MlflowRecorder(run)
    for step in range(3):
        recorder.metrics(step, {"loss/total": 1.0})
    recorder.progress(3, state(3))
    recorder.close()
    assert held == [{"loss/total": 2}]


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
    assert Stored().new_values(0, {"a": 1.0}) == {"a": 1.0}
