"""What a suite would do, against a real store but without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.runs.processes import process_name
from projects.cli.arguments import parse
from projects.cli.stage_parameters import EfficiencyParameters, SafetyParameters, SuiteParameters
from projects.inputs.digests import config_digest
from projects.running.launch import launch
from projects.workflows.suite_pages import failures, plan_text, suite_page
from projects.workflows.suite_tasks import Member, Task, plan, suite_tasks, walk

SYSTEM = SystemConfig()


def finished(experiment: str, stage: str, digest: str, status: str = "FINISHED", failure: str = "") -> str:
    tags = {"drone_cbf.stage": stage, "drone_cbf.config_digest": digest}
    client = MlflowClient()
    run_id = client.create_run(experiment, tags=tags | ({"drone_cbf.failure": failure} if failure else {})).info.run_id
    client.log_text(run_id, "system: {}\n", "config.yaml")
    client.set_terminated(run_id, status)
    return run_id


def asked(**changes: object) -> SuiteParameters:
    return SuiteParameters(**({"curricula": ("fast", "hybrid"), "seeds": (0, 1)} | changes))


def test_a_dry_run_prints_the_plan_and_leaves_no_run(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("suite", ["--curricula=fast", "--seeds=0", "--dry_run=true", f"--shared_seed={experiment}"]) == 0
    assert "4 children, 0 reused, 4 to be trained" in capsys.readouterr().out
    assert MlflowClient().search_runs([experiment]) == []
    assert launch("suite", ["--curricula=fats", "--dry_run=true"]) == 1
    assert "suite failed: curriculum 'fats' does not exist" in capsys.readouterr().err


def test_every_curriculum_is_trained_and_evaluated_with_every_seed_after_two_shared_stages() -> None:
    tasks = suite_tasks(asked(), {"physics.lag_time": "0.1"})
    assert [task.title for task in tasks] == [
        "efficiency seed 0",
        "pretrain_cbf seed 0",
        *(
            f"{stage} {name} seed {seed}"
            for seed in (0, 1)
            for name in ("fast", "hybrid")
            for stage in ("safety", "evaluate")
        ),
    ]
    assert [task.after for task in tasks] == [None, 0, 1, 2, 1, 4, 1, 6, 1, 8]
    assert tasks[0].parameters["physics.lag_time"] == "0.1" and "physics.lag_time" not in tasks[2].parameters


def test_with_a_parent_nothing_is_shared_and_the_children_take_the_systems_settings() -> None:
    tasks = suite_tasks(asked(parent_run="abc", seeds=(3,)), {"filter.solver": "qpax"})
    assert [(task.entry.name, task.after) for task in tasks] == [
        ("safety", None), ("evaluate", 0), ("safety", None), ("evaluate", 2),
    ]  # fmt: skip
    assert tasks[0].parameters["filter.solver"] == "qpax" and tasks[0].parameters["seed"] == "3"


def test_a_finished_run_with_the_same_settings_is_taken_over_and_another_is_not(experiment: str) -> None:
    task = suite_tasks(asked(efficiency_steps=7, shared_seed=int(experiment)), {})[0]
    assert plan(task, None, None).state == "planned"
    words = [f"--{name}={text}" for name, text in task.parameters.items()]
    settings = parse("efficiency", EfficiencyParameters, words).parameters
    digest = config_digest("efficiency", settings, SYSTEM)
    finished(experiment, "efficiency", digest, "FAILED", failure="no luck")
    assert plan(task, None, None).state == "planned", "a failed run is trained anew"
    run_id = finished(experiment, "efficiency", digest)
    found = plan(task, None, None)
    assert found.state == "reused" and found.run is not None and found.run.run_id == run_id
    assert plan(task, None, set()).state == "planned"
    other = Task(task.entry, {**task.parameters, "steps": "8"})
    assert plan(other, None, None).state == "planned"


def test_an_interrupted_run_that_left_its_progress_is_to_be_resumed(experiment: str) -> None:
    task = suite_tasks(asked(efficiency_steps=9, shared_seed=int(experiment)), {})[0]
    words = [f"--{name}={text}" for name, text in task.parameters.items()]
    digest = config_digest("efficiency", parse("efficiency", EfficiencyParameters, words).parameters, SYSTEM)
    run_id = finished(experiment, "efficiency", digest, "KILLED", failure="interrupted (SIGTERM)")
    assert plan(task, None, None).state == "planned", "it left nothing to go on from"
    save_checkpoint(run_id, "progress_4", {"step": np.zeros(2, np.float32)})
    client = MlflowClient()
    for status, failure in [
        ("KILLED", "interrupted (SIGTERM)"),
        ("FAILED", "interrupted (SIGTERM)"),  # 'mlflow run' calls what was stopped FAILED
        ("FAILED", ""),  # and what was killed, which could give no reason
        ("RUNNING", ""),  # killed together with 'mlflow run'
    ]:
        client.update_run(run_id, status=status)
        client.set_tag(run_id, "drone_cbf.failure", failure)
        found = plan(task, None, None)
        assert found.state == "interrupted" and found.run is not None and found.run.run_id == run_id
    client.set_tag(run_id, "drone_cbf.process", process_name())
    assert plan(task, None, None).state == "planned", "it is still running"
    client.update_run(run_id, status="FAILED")
    client.set_tag(run_id, "drone_cbf.failure", "loss/total became nan")
    assert plan(task, None, None).state == "planned", "its own error would only come again"


def test_a_curriculum_counts_by_its_content_and_seed_and_system_count_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nstages: [{name: a, steps: 5}]\n")
    first = SafetyParameters(parent_run="x", curriculum=str(file))
    digest = config_digest("safety", first, SYSTEM)
    copy = tmp_path / "copy.yaml"
    copy.write_text(file.read_text())
    assert config_digest("safety", first.model_copy(update={"curriculum": str(copy)}), SYSTEM) == digest
    assert config_digest("safety", first.model_copy(update={"checkpoint_every": 77}), SYSTEM) == digest
    other = SystemConfig.model_validate({"physics": {"lag_time": 0.2}})
    assert config_digest("safety", first, other) != digest
    for change in ({"seed": 1}, {"parent_run": "y"}):
        assert config_digest("safety", first.model_copy(update=change), SYSTEM) != digest
    file.write_text("name: mine\nstages: [{name: a, steps: 6}]\n")
    assert config_digest("safety", first, SYSTEM) != digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=0,0"], "seeds = 0,0 holds 0 twice; name each of them once"),
        (["--curricula=fast,fast"], "curricula = fast,fast holds fast twice"),
        (["--seeds=-1"], "seeds = -1 is out of range (allowed: >= 0, <= 2147483647)"),
        (["--dry_run=perhaps"], "dry_run = perhaps is not true or false"),
        (["--scenarios=desert"], "scenarios = desert is not one of fixed_ring, random_cloud, forest"),
    ],
)
def test_wrong_lists_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("suite", SuiteParameters, arguments)
    assert message in str(caught.value)


def test_unknown_curricula_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="curriculum 'fats' does not exist; did you mean fast"):
        suite_tasks(asked(curricula=("fats",)), {})
    file = tmp_path / "mine.yaml"
    file.write_text("name: fast\nstages: [{name: a, steps: 5}]\n")
    with pytest.raises(ConfigError, match="are both called 'fast'; give one of them another name"):
        suite_tasks(asked(curricula=("fast", str(file))), {})


def test_a_value_that_a_child_would_refuse_is_refused_by_the_plan() -> None:
    tasks = suite_tasks(asked(parent_run="x"), {"physics.lag_time": "7"})
    with pytest.raises(ConfigError, match=r"physics.lag_time = 7 is out of range"):
        walk(tasks, None, lambda task, parent: plan(task, parent, None))


def test_after_a_failure_only_what_builds_on_it_is_left_out() -> None:
    tasks = suite_tasks(asked(seeds=(0,)), {})
    broken = next(task for task in tasks if task.title == "safety fast seed 0")

    def child(task: Task, parent: str | None) -> Member:
        return Member(task, "failed", reason="loss became nan") if task is broken else Member(task, "trained")

    members = walk(tasks, None, child)
    states = {member.task.title: member.state for member in members}
    assert states["evaluate fast seed 0"] == "left out"
    assert states["safety hybrid seed 0"] == states["evaluate hybrid seed 0"] == "trained"
    told = failures(members)
    assert told.startswith("1 of 6 children failed, 1 left out: safety fast seed 0 (not started): loss became nan; ")
    assert "start the suite again" in told and "\n" not in told
    assert "| loss became nan" in suite_page(members) and failures(members[:2]) == ""
    assert "6 children, 0 reused" in plan_text(members)
