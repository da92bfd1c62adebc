"""A run that is killed goes on, in the same run, to the very bits that it would have reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow import MlflowClient

from drone_cbf.tracking.resuming import progress_names
from drone_cbf.tracking.runs import stage_run
from drone_cbf.tracking.tags import CURRICULUM_FILE
from projects import safety
from projects.parameters import SafetyParameters
from projects.running import run_stage
from tests.projects.small_pipeline import SMALL, mlflow_run
from tests.projects.toy_stage import TOY, work

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
    stages = [{"name": name, "steps": 20, "noise": 0.05, "blend": 1.0, "horizon": 30} for name in ("a", "b")]
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({"name": "long", "stages": stages}))
    result = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "resume_after_kill.py"),
            *(f"--parent_run={barrier}", "--curriculum=long.yaml", "--kills=10", "--given=batch=4"),
            "--given=checkpoint_every=3",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| identical |" in result.stdout


def test_an_interrupted_safety_run_keeps_the_curriculum_of_its_beginning(experiment: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: today\nstages: [{name: only, steps: 9}]\n")
    with stage_run("safety", ROOT) as run:
        stage = SimpleNamespace(run=run, parameters=SafetyParameters(parent_run="x", curriculum=str(file)))
        assert safety.curriculum_in_force(stage).name == "today", "a new run stores nothing before"
        run.log_text('{"name": "then", "stages": [{"name": "only", "steps": 2}]}', CURRICULUM_FILE)
        kept = safety.curriculum_in_force(stage)
    assert (kept.name, kept.total_steps) == ("then", 2)
