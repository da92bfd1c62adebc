"""A run that is killed goes on, in the same run, to the very bits that it would have reached."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow import MlflowClient

from drone_cbf.tracking.checkpoints.store import FINAL, load_checkpoint
from drone_cbf.tracking.runs.resuming import latest_progress, progress_names
from drone_cbf.tracking.runs.stage_run import stage_run
from drone_cbf.tracking.tags import CURRICULUM_FILE
from projects.cli.stage_parameters import SafetyParameters
from projects.running.stage_runner import run_stage
from projects.stages import safety
from tests.projects.small_pipeline import (
    SMALL,
    SmallPipeline,
    command_line,
    environment_of_runs,
    mlflow_run,
    stored_runs,
)
from tests.projects.toy_stage import TOY, work
from tests.stores import tracking

ROOT = Path(__file__).resolve().parents[2]


def last_run(experiment: str) -> str:
    return MlflowClient().search_runs([experiment], order_by=["attributes.start_time DESC"])[0].info.run_id


def test_a_resumed_run_keeps_its_id_its_settings_and_its_figures_and_leaves_no_second_run(experiment: str) -> None:
    assert run_stage(TOY, work, ["--steps=6", "--physics.lag_time=0.1", "--failure=once"]) == 1
    run_id = last_run(experiment)
    assert progress_names(run_id) == ["progress_4"]
    assert run_stage(TOY, work, [f"--resume_run={run_id}"]) == 0
    runs = MlflowClient().search_runs([experiment])
    assert [run.info.run_id for run in runs] == [run_id]
    assert runs[0].info.status == "FINISHED" and "drone_cbf.failure" not in runs[0].data.tags
    assert runs[0].data.tags["drone_cbf.resumed"] == "1" and runs[0].data.params["physics.lag_time"] == "0.1"
    history = MlflowClient().get_metric_history(run_id, "loss/total")
    assert [metric.step for metric in history] == [0, 1, 2, 3, 4, 5], "neither gaps nor duplicates"
    assert progress_names(run_id) == [], "a finished run needs no state to go on from"


def test_other_settings_than_the_runs_own_are_refused_and_the_run_stays_as_it_was(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(TOY, work, ["--steps=6", "--failure=once"]) == 1
    run_id = last_run(experiment)
    assert run_stage(TOY, work, [f"--resume_run={run_id}", "--steps=7"]) == 1
    assert "steps = 7 differs from the 6 that the run was started with; leave it out" in capsys.readouterr().err
    assert progress_names(run_id) == ["progress_4"]


@pytest.mark.slow
def test_a_safety_run_killed_ten_times_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    short = {**SMALL, "rollouts": "2"}
    assert mlflow_run(tmp_path, "pipeline", short).returncode == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    barrier = client.search_runs(["0"], "tags.`drone_cbf.stage` = 'pretrain_cbf'")[0].info.run_id
    stages = [{"name": name, "steps": 60, "noise": 0.05, "blend": 1.0, "horizon": 30} for name in ("a", "b")]
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({"name": "long", "stages": stages}))
    result = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "resume_after_kill.py"),
            *(f"--parent_run={barrier}", "--curriculum=long.yaml", "--kills=10", "--given=batch=4"),
            "--given=checkpoint_every=3",
        ],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| identical |" in result.stdout and "\n| 10 |" in result.stdout


@pytest.fixture
def store(tmp_path: Path, small_pipeline: SmallPipeline) -> Iterator[Path]:
    """A folder with a copy of the small pipeline's store: others look at that as it is."""
    shutil.copy(small_pipeline.folder / "mlflow.db", tmp_path)
    with tracking(f"sqlite:///{tmp_path}/mlflow.db"):
        yield tmp_path


@pytest.mark.slow
def test_mlflow_run_goes_on_with_a_killed_safety_run_in_the_same_run(
    store: Path, small_pipeline: SmallPipeline
) -> None:
    client = MlflowClient()
    barrier = stored_runs(small_pipeline.folder)["pretrain_cbf"].info.run_id
    curriculum = "name: one\nstages: [{name: a, steps: 30, noise: 0.05, blend: 1.0, horizon: 30}]\n"
    (store / "one.yaml").write_text(curriculum)
    given = {"parent_run": barrier, "curriculum": f"{store}/one.yaml", "batch": "4", "report_flights": "6"}
    before = {run.info.run_id for run in client.search_runs(["0"])}
    command = command_line("safety", {**given, "checkpoint_every": "2"})
    process = subprocess.Popen(command, cwd=store, env=environment_of_runs({}), start_new_session=True)
    try:
        run_id = wait_for_state(process, before)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    killed = client.get_run(run_id)
    assert killed.info.status == "RUNNING", "nobody could say that it ended"

    result = mlflow_run(store, "safety", {"resume_run": run_id})
    assert result.returncode == 0, result.stdout + result.stderr
    others = [run for run in client.search_runs(["0"]) if run.info.run_id not in {*before, run_id}]
    assert [run.data.tags["mlflow.parentRunId"] for run in others] == [run_id], "what 'mlflow run' prepared is folded"
    resumed = client.get_run(run_id)
    assert resumed.info.status == "FINISHED" and resumed.data.tags["drone_cbf.resumed"] == "1"
    assert resumed.info.start_time == killed.info.start_time and resumed.data.params["batch"] == "4"
    steps = [metric.step for metric in client.get_metric_history(run_id, "loss/total")]
    assert steps == list(range(30)), "neither gaps nor duplicates"
    assert int(load_checkpoint(run_id, FINAL)["state"]["step"]) == 30


def wait_for_state(process: subprocess.Popen[bytes], before: set[str]) -> str:
    """The run that has begun since ``before``, once it has a state to go on from."""
    deadline = time.monotonic() + 300.0
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it was killed"
        found = [run.info.run_id for run in MlflowClient().search_runs(["0"]) if run.info.run_id not in before]
        if found and latest_progress(found[0]) is not None:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no state was stored")


def test_an_interrupted_safety_run_keeps_the_curriculum_of_its_beginning(experiment: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: today\nstages: [{name: only, steps: 9}]\n")
    with stage_run("safety", ROOT) as run:
        stage = SimpleNamespace(run=run, parameters=SafetyParameters(parent_run="x", curriculum=str(file)))
        assert safety.curriculum_in_force(stage).name == "today", "a new run stores nothing before"
        run.log_text('{"name": "then", "stages": [{"name": "only", "steps": 2}]}', CURRICULUM_FILE)
        kept = safety.curriculum_in_force(stage)
    assert (kept.name, kept.total_steps) == ("then", 2)
