from __future__ import annotations

import pytest
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.errors import LineageError
from drone_cbf.tracking.runs.lineage import find, provides, resolve_parent

CONFIG = {"system": SystemConfig.model_validate({"physics": {"lag_time": 0.2}}).model_dump(mode="json")}


def make_run(experiment: str, stage: str | None, status: str = "FINISHED", config: bool = True, **tags: str) -> str:
    client = MlflowClient()
    given = {f"drone_cbf.{name}": text for name, text in tags.items()} | ({"drone_cbf.stage": stage} if stage else {})
    run_id = client.create_run(experiment, tags=given, run_name=f"{stage}-run").info.run_id
    if config:
        client.log_text(run_id, yaml.safe_dump(CONFIG), "config.yaml")
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def test_a_finished_parent_of_the_right_stage_comes_with_its_config(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency")
    parent = resolve_parent(run_id, ["efficiency"])
    assert (parent.run_id, parent.stage) == (run_id, "efficiency")
    assert parent.config == CONFIG


@pytest.mark.parametrize(
    ("stage", "status", "message"),
    [
        ("efficiency", "RUNNING", r"\(efficiency\) is RUNNING; wait until it has finished"),
        ("efficiency", "FAILED", r"\(efficiency\) is FAILED \(no luck\); repeat it, or name a finished efficiency run"),
        ("efficiency", "KILLED", "is KILLED"),
        ("safety", "FINISHED", "is a run of stage safety, expected a finished efficiency run"),
        (None, "FINISHED", "is no run of this project, expected a finished efficiency run"),
    ],
)
def test_a_parent_that_does_not_fit_is_named_with_the_remedy(
    experiment: str, stage: str | None, status: str, message: str
) -> None:
    run_id = make_run(experiment, stage, status, failure="no luck")
    if status == "RUNNING":
        MlflowClient().delete_tag(run_id, "drone_cbf.failure")
    with pytest.raises(LineageError, match=f"parent_run {run_id}.*{message}"):
        resolve_parent(run_id, ["efficiency"])


def test_a_parent_that_does_not_exist_is_named_with_the_store(experiment: str) -> None:
    with pytest.raises(LineageError, match="parent_run 'nothing' was not found in sqlite.*check the run ID"):
        resolve_parent("nothing", ["efficiency"])


def test_a_name_in_place_of_an_id_is_answered_with_the_id(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency")
    MlflowClient().set_tag(run_id, "mlflow.runName", "swift-hawk-1")
    with pytest.raises(LineageError, match=f"a run of that name has the ID {run_id}"):
        resolve_parent("swift-hawk-1", ["efficiency"])


def test_a_deleted_parent_can_be_restored(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency")
    MlflowClient().delete_run(run_id)
    with pytest.raises(LineageError, match="is deleted; restore it"):
        resolve_parent(run_id, ["efficiency"])


def test_a_parent_without_config_is_refused(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency", config=False)
    with pytest.raises(LineageError, match="has no readable config.yaml"):
        resolve_parent(run_id, ["efficiency"])


def test_a_pipeline_named_as_parent_is_answered_with_the_stage_that_was_meant(experiment: str) -> None:
    pipeline = make_run(experiment, "pipeline")
    child = make_run(experiment, "safety")
    MlflowClient().set_tag(child, "mlflow.parentRunId", pipeline)
    with pytest.raises(LineageError, match=f"its safety run is {child}"):
        resolve_parent(pipeline, ["safety"])


def test_an_evaluation_named_as_parent_is_answered_with_its_own_parent(experiment: str) -> None:
    safety = make_run(experiment, "safety")
    evaluation = make_run(experiment, "evaluate", parent_run=safety)
    with pytest.raises(LineageError, match=f"its own parent {safety} is one"):
        resolve_parent(evaluation, ["safety"])


def test_parts_are_found_on_the_nearest_run_of_the_ancestry(experiment: str) -> None:
    first = make_run(experiment, "efficiency", provides="policy")
    second = make_run(experiment, "pretrain_cbf", provides="barrier", parent_run=first)
    third = make_run(experiment, "safety", provides="policy,barrier", parent_run=second)
    assert find(second, "policy") == first
    assert find(second, "barrier") == second
    assert find(third, "policy") == third
    assert provides(second, "barrier") and not provides(first, "barrier")


def test_a_part_that_nobody_trained_names_the_ancestry(experiment: str) -> None:
    first = make_run(experiment, "efficiency", provides="policy")
    second = make_run(experiment, "pretrain_cbf", parent_run=first)
    with pytest.raises(LineageError, match=f"no barrier on parent_run.*pretrain_cbf {second} <- efficiency {first}"):
        find(second, "barrier")


def test_an_altered_ancestry_that_runs_in_a_circle_ends(experiment: str) -> None:
    first = make_run(experiment, "efficiency")
    second = make_run(experiment, "pretrain_cbf", parent_run=first)
    MlflowClient().set_tag(first, "drone_cbf.parent_run", second)
    with pytest.raises(LineageError, match="its own ancestor"):
        find(second, "policy")
