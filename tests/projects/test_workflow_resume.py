"""A pipeline or suite that was killed is resumed whole: by its plan, at the child where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import pytest
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.runs.nesting import StageFailed, finished_child
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.runs.resuming import check_resumable
from drone_cbf.tracking.runs.stage_run import StageRun, stage_run
from projects.cli.stage_parameters import PipelineParameters, SuiteParameters
from projects.inputs.curriculum_files import with_sizes
from projects.running.stage_runner import Stage
from projects.workflows import children as carrying_out
from projects.workflows import pipeline, plans, suite

CURRICULUM = "name: mine\nstages: [{name: a, steps: 5, blend: 0.5}]\n"


@dataclass
class Children:
    """In place of real children: runs in the store that end as the test says."""

    experiment: str
    ends: dict[str, str] = field(default_factory=dict)
    """Stage -> status in place of FINISHED."""
    given: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Every child that was started."""

    def run_child(
        self, run: StageRun, project: Path, entry: str, parameters: Mapping[str, str], name: str | None = None
    ) -> Any:
        client = MlflowClient()
        self.given.append((entry, dict(parameters)))
        run_id = parameters.get("resume_run")
        if run_id is None:
            tags = {"drone_cbf.stage": entry, "mlflow.parentRunId": run.run_id}
            run_id = client.create_run(self.experiment, tags=tags).info.run_id
            client.log_text(run_id, "parameters: {}", "config.yaml")
        if status := self.ends.pop(entry, ""):
            save_checkpoint(run_id, "progress_3", {"step": 3})
            client.set_tag(run_id, "drone_cbf.failure", "interrupted (SIGTERM)")
            client.update_run(run_id, status=status)
            raise StageFailed(f"stage {entry} failed", "interrupted (SIGTERM)", run_id)
        client.set_terminated(run_id)
        return finished_child(run_id)


@pytest.fixture
def run(experiment: str) -> Iterator[StageRun]:
    with stage_run("pipeline", Path(__file__).resolve().parents[2]) as started:
        yield started


@pytest.fixture
def children(experiment: str, monkeypatch: pytest.MonkeyPatch) -> Children:
    found = Children(experiment)
    for module in (pipeline, carrying_out):
        monkeypatch.setattr(module, "run_child", found.run_child)
    for workflow in (pipeline, suite):
        monkeypatch.setattr(workflow, "prepare_for_children", lambda: None)
    monkeypatch.setattr(pipeline, "worst_cell_summary", lambda figures: "")
    monkeypatch.setattr(pipeline, "evaluation_figures", lambda run: {})
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(CURRICULUM)
    return path


@pytest.fixture
def stage(run: StageRun, file: Path) -> Stage:
    parameters = with_sizes(PipelineParameters(curriculum=str(file), seed=7))
    return cast(Stage, SimpleNamespace(run=run, parameters=parameters, given_system={"physics.lag_time": "1e-1"}))


def again(stage: Stage) -> Stage:
    """The same run as it is resumed: what was typed is not known any more."""
    return cast(Stage, SimpleNamespace(run=stage.run, parameters=stage.parameters, given_system={}, parent=None))


def test_a_pipeline_goes_on_in_the_child_that_was_interrupted_and_keeps_what_has_finished(
    stage: Stage, children: Children
) -> None:
    children.ends = {"safety": "KILLED"}
    with pytest.raises(StageFailed) as caught:
        pipeline.work(stage)
    assert f"mlflow run . -e pipeline -P resume_run={stage.run.run_id}" in caught.value.__notes__[0]
    first = dict(children.given)
    assert first["efficiency"]["physics.lag_time"] == "1e-1"
    children.given.clear()
    pipeline.work(again(stage))
    (safety, resumed), (evaluate, measured) = children.given
    assert (safety, list(resumed)) == ("safety", ["resume_run"]) and evaluate == "evaluate"
    assert measured["parent_run"] == resumed["resume_run"] and measured["blend"] == "0.5"
    children.given.clear()
    pipeline.work(again(stage))
    assert children.given == [], "all has finished"


def test_a_child_without_a_state_is_begun_anew_as_it_was_planned(stage: Stage, children: Children, file: Path) -> None:
    children.ends = {"efficiency": "KILLED"}
    with pytest.raises(StageFailed):
        pipeline.work(stage)
    (interrupted,) = plans.own_children(stage.run.run_id)
    before = dict(children.given)["efficiency"]
    from drone_cbf.tracking.checkpoints.store import delete_checkpoint

    delete_checkpoint(interrupted.run_id, "progress_3")
    children.given.clear()
    pipeline.work(again(stage))
    assert children.given[0] == ("efficiency", before), "with what was typed at the beginning"
    assert len(plans.own_children(stage.run.run_id)) == 5, "the one that was interrupted stays beside the four"


def test_a_curriculum_that_has_changed_is_refused_before_the_stage_that_would_read_it_and_only_there(
    stage: Stage, children: Children, file: Path
) -> None:
    children.ends = {"pretrain_cbf": "KILLED"}
    with pytest.raises(StageFailed):
        pipeline.work(stage)
    file.write_text(CURRICULUM.replace("0.5", "0.7"))
    with pytest.raises(ConfigError, match="has changed since the interrupted run began; bring its file back"):
        pipeline.work(again(stage))
    file.write_text(CURRICULUM)
    pipeline.work(again(stage))
    file.unlink()
    pipeline.work(again(stage))


def test_a_child_that_still_stores_its_state_is_waited_for(
    stage: Stage, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    children.ends = {"efficiency": "RUNNING"}
    with pytest.raises(StageFailed):
        pipeline.work(stage)
    (child,) = plans.own_children(stage.run.run_id)
    client = MlflowClient()
    client.set_tag(child.run_id, "drone_cbf.process", process_name())
    monkeypatch.setattr(plans, "STORING", 0.0)
    with pytest.raises(LineageError, match=f"{child.run_id} is still running"):
        pipeline.work(again(stage))
    monkeypatch.setattr(plans, "STORING", 60.0)
    monkeypatch.setattr("time.sleep", lambda seconds: client.set_terminated(child.run_id, "KILLED"))
    pipeline.work(again(stage))


@pytest.mark.parametrize("reuse", [True, False])
def test_a_suite_goes_on_with_its_own_tasks(
    run: StageRun, children: Children, file: Path, monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> None:
    monkeypatch.setattr("projects.comparison.comparison.compare", lambda *a, **k: "compared")
    parameters = SuiteParameters(curricula=(str(file),), seeds=(3,), reuse=reuse, rollouts=5)
    given = {"physics.lag_time": "1e-1"}
    start = cast(Stage, SimpleNamespace(run=run, parameters=parameters, given_system=given, parent=None))
    started = record_digests(children, monkeypatch)
    children.ends = {"safety": "KILLED"}
    with pytest.raises(suite.SuiteIncomplete):
        suite.work(start)
    assert [entry for entry, _ in children.given] == ["efficiency", "pretrain_cbf", "safety"]
    children.given.clear()
    suite.work(again(start))
    assert [(entry, list(given)[-1]) for entry, given in children.given] == [
        ("safety", "resume_run"),
        ("evaluate", "parent_run"),
    ]
    assert started == ["efficiency", "pretrain_cbf", "safety", "evaluate"]


def record_digests(children: Children, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives every new child the settings and the digest of a real one; the stages that were begun."""
    from projects.cli.arguments import parse
    from projects.inputs.digests import config_digest
    from projects.running.entry_points import ENTRY_POINTS

    begun: list[str] = []
    plain: Callable[..., Any] = children.run_child

    def run_child(run: StageRun, project: Path, entry: str, parameters: Mapping[str, str], name: str = "") -> Any:
        try:
            child = plain(run, project, entry, parameters)
        finally:
            if "resume_run" not in parameters:
                begun.append(entry)
                newest = plans.own_children(run.run_id)[-1].run_id
                point = ENTRY_POINTS[entry]
                words = parse(entry, point.parameters, [f"--{name}={text}" for name, text in parameters.items()])
                parent = getattr(words.parameters, "parent_run", "")
                inherited = yaml.safe_load(mlflow.artifacts.load_text(f"runs:/{parent}/config.yaml")) if parent else {}
                system = point.system_of(words.parameters, inherited.get("system"), words.system)
                MlflowClient().log_text(
                    newest, yaml.safe_dump({"system": system.model_dump(mode="json")}), "config.yaml"
                )
                digest = config_digest(entry, words.parameters, system)
                MlflowClient().set_tag(newest, "drone_cbf.config_digest", digest)
        return child

    monkeypatch.setattr(carrying_out, "run_child", run_child)
    return begun


def test_a_workflow_that_had_not_planned_yet_is_started_again(experiment: str) -> None:
    client = MlflowClient()
    run_id = client.create_run(experiment, tags={"drone_cbf.stage": "pipeline"}).info.run_id
    client.log_text(run_id, "parameters: {}", "config.yaml")
    client.set_terminated(run_id, "KILLED")
    with pytest.raises(LineageError, match="was interrupted before it stored plan.json; start a new run"):
        check_resumable(run_id, "pipeline")
