from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.tracking.runs.lineage import load_config
from projects.running.launch import launch
from projects.running.stage_runner import collect_rarely, run_stage
from tests.projects.toy_stage import FOLLOWER, TOY, work


def last_run(experiment: str) -> Run:
    return MlflowClient().search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=1)[0]


def toy_run(experiment: str, *arguments: str) -> str:
    assert run_stage(TOY, work, arguments) == 0
    return last_run(experiment).info.run_id


def test_a_stage_leaves_config_metrics_checkpoint_description_and_tags(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = toy_run(experiment, "--steps=2", "--physics.lag_time=0.1")
    run = MlflowClient().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["drone_cbf.provides"] == "policy" and "cpu" in run.data.tags["drone_cbf.device"]
    assert run.data.metrics["loss/total"] == 0.5
    assert (run.data.params["steps"], run.data.params["physics.lag_time"]) == ("2", "0.1")
    assert load_config(run_id)["system"]["physics"]["lag_time"] == 0.1
    assert "| a | b |" in run.data.tags["mlflow.note.content"] and "half way" in run.data.tags["mlflow.note.content"]
    assert run_id in capsys.readouterr().out


def test_a_later_stage_inherits_the_parents_system_except_for_given_flags(experiment: str) -> None:
    parent = toy_run(experiment, "--physics.lag_time=0.1", "--scene.obstacles=64")
    assert run_stage(FOLLOWER, work, [f"--parent_run={parent}", "--physics.delay=0.1"]) == 0
    run = last_run(experiment)
    assert run.data.tags["drone_cbf.parent_run"] == parent
    assert (run.data.params["physics.lag_time"], run.data.params["physics.delay"]) == ("0.1", "0.1")
    assert run.data.params["scene.obstacles"] == "64"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=99"], "toy failed: steps = 99 is out of range (allowed: >= 1, <= 10)"),
        (["--stepz=1"], "toy failed: unknown parameter 'stepz'; did you mean steps?"),
        (["--failure=user"], "toy failed: loss/total became nan at step 3; lower learning_rate"),
    ],
)
def test_a_users_error_is_one_line_without_traceback_and_a_failed_run(
    experiment: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run_stage(TOY, work, arguments) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    run = last_run(experiment)
    assert run.info.status == "FAILED"
    assert message.endswith(run.data.tags["drone_cbf.failure"]) or run.data.tags["drone_cbf.failure"] in shown
    assert "drone_cbf.provides" not in run.data.tags


def test_an_unforeseen_error_shows_its_origin_and_fails_the_run_with_the_reason(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(TOY, work, ["--failure=crash"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("toy failed: RuntimeError: unforeseen problem\n")
    run = last_run(experiment)
    assert (run.info.status, run.data.tags["drone_cbf.failure"]) == ("FAILED", "RuntimeError: unforeseen problem")
    assert run.data.metrics["loss/total"] > 0.0, "what was recorded until then is kept"


def test_sigterm_kills_the_run_keeps_what_was_recorded_and_says_how_to_resume_it(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(TOY, work, ["--failure=interrupt"]) == 130
    run = last_run(experiment)
    assert (run.info.status, run.data.tags["drone_cbf.failure"]) == ("KILLED", "interrupted (SIGTERM)")
    assert run.data.metrics["loss/total"] > 0.0
    told = "toy interrupted at step 3 of 3; the state of step 2 is stored; resume it with: "
    assert f"{told}mlflow run . -e toy -P resume_run={run.info.run_id}\n" in capsys.readouterr().err


def test_ctrl_c_before_a_state_is_stored_names_the_command_that_starts_again(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--steps=1", "--failure=ctrl-c", "--physics.lag_time=0.1"]
    assert run_stage(TOY, work, arguments) == 130
    again = "mlflow run . -e toy -P steps=1 -P failure=ctrl-c -P physics.lag_time=0.1"
    assert (
        f"toy interrupted at step 1 of 1; no state is stored; start it again with: {again}\n" in capsys.readouterr().err
    )
    assert last_run(experiment).data.tags["drone_cbf.failure"] == "interrupted (SIGINT)"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("unfinished", "is RUNNING; wait until it has finished"),
        ("failed", "is FAILED; repeat it"),
        ("stage", "is a run of stage evaluate, expected a finished toy or follower run"),
        ("config", "has no readable config.yaml"),
        ("system", "physics.lag_time = 9: Input should be less than or equal to 0.5"),
    ],
)
def test_a_parent_that_does_not_fit_fails_before_any_work(
    experiment: str, capsys: pytest.CaptureFixture[str], damage: str, message: str
) -> None:
    client = MlflowClient()
    tags = {"drone_cbf.stage": "evaluate" if damage == "stage" else "toy"}
    parent = client.create_run(experiment, tags=tags).info.run_id
    if damage != "config":
        system = SystemConfig().model_dump(mode="json")
        system["physics"]["lag_time"] = 9 if damage == "system" else 0.1
        client.log_text(parent, yaml.safe_dump({"system": system}), "config.yaml")
    if damage != "unfinished":
        client.set_terminated(parent, "FAILED" if damage == "failed" else "FINISHED")

    def no_work(stage: object) -> None:
        raise AssertionError("work began")

    assert run_stage(FOLLOWER, no_work, [f"--parent_run={parent}"]) == 1  # type: ignore[arg-type]
    assert message in capsys.readouterr().err
    failed = [run for run in client.search_runs([experiment]) if run.data.tags["drone_cbf.stage"] == "follower"]
    assert failed[0].info.status == "FAILED" and message in failed[0].data.tags["drone_cbf.failure"]
    assert client.list_artifacts(failed[0].info.run_id) == [], "nothing half-written"


def test_help_starts_no_run(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("efficiency", ["--help"]) == 0
    assert "default 180; >= 1" in capsys.readouterr().out
    assert MlflowClient().search_runs([experiment]) == []


def test_a_final_checkpoint_is_complete_before_the_run_says_that_it_provides_something(experiment: str) -> None:
    run = MlflowClient().get_run(toy_run(experiment))
    folder = Path(urlparse(run.info.artifact_uri).path) / "checkpoints" / "final"
    assert (folder / "manifest.json").is_file() and mlflow.active_run() is None


def collections_while_many_objects_are_kept() -> Counter[int]:
    """By generation."""
    seen: Counter[int] = Counter()

    def count(phase: str, info: dict[str, int]) -> None:
        seen[info["generation"]] += phase == "start"

    gc.callbacks.append(count)
    try:
        kept = [[number] for number in range(1_000_000)]
    finally:
        gc.callbacks.remove(count)
    del kept
    return seen


@pytest.mark.slow
def test_figures_can_be_stored_for_minutes_without_a_full_garbage_collection() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        assert collections_while_many_objects_are_kept()[2] > 0, "else this says nothing"
        collect_rarely()
        seen = collections_while_many_objects_are_kept()
    finally:
        gc.set_threshold(*before)
    assert seen[2] == 0 and seen[0] > 0 and seen[1] > 0, "young garbage is collected as ever"
