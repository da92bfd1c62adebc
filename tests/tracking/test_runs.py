from __future__ import annotations

import math
import platform
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.errors import DroneCbfError, TrainingError
from drone_cbf.tracking.queries.records import table
from drone_cbf.tracking.runs.presentation import EXPERIMENT
from drone_cbf.tracking.runs.provenance import environment
from drone_cbf.tracking.runs.stage_run import StageRun, flatten, stage_run
from drone_cbf.tracking.tags import FAILURE_TAG, NOTE_TAG, versions_of

PROJECT = Path(__file__).resolve().parents[2]


def stored(run_id: str) -> mlflow.entities.Run:
    return MlflowClient().get_run(run_id)


def test_a_run_started_directly_says_what_it_is_and_where_it_comes_from(experiment: str) -> None:
    with stage_run("toy", PROJECT) as run:
        pass
    tags = stored(run.run_id).data.tags
    assert stored(run.run_id).info.status == "FINISHED"
    assert tags["drone_cbf.stage"] == "toy"
    assert (
        versions_of(tags)["mlflow"] == mlflow.__version__ and versions_of(tags)["python"] == platform.python_version()
    )
    assert tags["drone_cbf.environment"] == environment()
    assert len(tags["mlflow.source.git.commit"]) == 40 and tags["drone_cbf.git_dirty"] in ("true", "false")


def test_a_resumed_run_keeps_where_it_came_from_and_says_what_is_different_now(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError), stage_run("toy", PROJECT) as run:
        run.log_config({"stage": "toy"})
        run.record_environment({"drone_cbf.device": "1 x tpu"})
        raise TrainingError("lost")
    MlflowClient().set_tag(run.run_id, "drone_cbf.version.jax", "0.1")
    with stage_run("toy", PROJECT, resume=run.run_id) as again:
        again.record_environment({"drone_cbf.device": "2 x cpu"})
    tags = stored(run.run_id).data.tags
    assert (versions_of(tags)["jax"], tags["drone_cbf.device"]) == ("0.1", "1 x tpu"), "as one tag each, of older code"
    told = tags["drone_cbf.resumed_with"]
    assert told.startswith("version.jax: 0.1 before, ") and told.endswith("device: 1 x tpu before, 2 x cpu now")
    assert "environment changed; results may not be bit-identical: version.jax" in capsys.readouterr().err
    MlflowClient().set_terminated(run.run_id, "KILLED")
    with stage_run("toy", PROJECT, resume=run.run_id) as again:
        again.record_environment({"drone_cbf.device": "2 x cpu"})
    assert stored(run.run_id).data.tags["drone_cbf.resumed_with"] == told, "the same change is recorded once"


def test_a_new_run_whose_commit_is_recorded_already_keeps_it_and_is_not_called_resumed(
    experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = MlflowClient().create_run(experiment, tags={"mlflow.source.git.commit": "of mlflow run"})
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    with stage_run("toy", PROJECT) as run:
        pass
    tags = stored(run.run_id).data.tags
    assert tags["mlflow.source.git.commit"] == "of mlflow run" and "drone_cbf.resumed_with" not in tags
    assert "resumed" not in capsys.readouterr().err


def test_without_a_chosen_experiment_a_direct_run_goes_to_drone_cbf(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    with stage_run("toy", PROJECT) as run:
        pass
    assert MlflowClient().get_experiment(run.experiment_id).name == EXPERIMENT


def test_a_run_prepared_by_mlflow_run_is_adopted(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = MlflowClient().create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared.info.run_id)
    with stage_run("toy", PROJECT) as run:
        assert run.run_id == prepared.info.run_id
    assert stored(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (TrainingError("loss became nan;\n lower learning_rate"), "FAILED", "loss became nan; lower learning_rate"),
        (RuntimeError("boom"), "FAILED", "RuntimeError: boom"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ],
)
def test_a_body_that_raises_ends_the_run_with_the_reason(
    experiment: str, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), stage_run("toy", PROJECT) as run:
        raise error
    assert stored(run.run_id).info.status == status
    assert stored(run.run_id).data.tags[FAILURE_TAG] == reason
    assert mlflow.active_run() is None


def test_a_store_that_cannot_be_used_is_one_clear_error(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    refused = pytest.raises(DroneCbfError, match="no run can be started in sqlite.*check MLFLOW_TRACKING_URI")
    with refused, stage_run("toy", PROJECT):
        pass


def test_the_config_is_stored_whole_and_as_params_without_touching_those_of_mlflow_run(run: StageRun) -> None:
    MlflowClient().log_param(run.run_id, "learning_rate", "1e-3")
    config = {"parameters": {"learning_rate": 0.001}, "system": SystemConfig().model_dump(mode="json")}
    run.log_config(config)
    params = stored(run.run_id).data.params
    assert params["learning_rate"] == "1e-3"
    assert params["physics.lag_time"] == str(SystemConfig().physics.lag_time)
    text = mlflow.artifacts.load_text(f"runs:/{run.run_id}/config.yaml")
    assert SystemConfig.model_validate(yaml.safe_load(text)["system"]) == SystemConfig()


def test_a_table_keeps_every_bit_and_is_one_that_the_ui_lists(run: StageRun) -> None:
    columns = {
        "name": ["a", "b"],
        "value": [1.0 / 3.0, math.nan],
        "single": list(np.float32([0.1, np.inf])),
        "n": [1, 2],
    }
    run.log_table(columns, "tables/some.json")
    first, second = table(run.run_id, "tables/some.json")
    assert first == {"name": "a", "value": 1.0 / 3.0, "single": float(np.float32(0.1)), "n": 1}
    assert (second["value"], second["single"]) == (None, None)
    assert list(mlflow.load_table("tables/some.json", [run.run_id])["name"]) == ["a", "b"], "as MLflow's own"


def test_a_description_longer_than_mlflow_takes_is_shortened_and_kept_whole_as_artifact(run: StageRun) -> None:
    text = "x" * 9000
    run.describe(text)
    assert len(stored(run.run_id).data.tags[NOTE_TAG]) == 8000
    assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/summary.md") == text


def test_more_params_than_one_call_takes_are_all_stored(run: StageRun) -> None:
    run.log_config({f"p{i}": i for i in range(250)})
    assert len(stored(run.run_id).data.params) == 250


def test_flattening_joins_names_with_dots_and_lists_with_commas() -> None:
    config = {"stage": "a", "parameters": {"x": 1, "none": None}, "system": {"physics": {"limit": [1.0, 2.0]}}}
    assert flatten(config) == {"stage": "a", "x": "1", "physics.limit": "1.0,2.0"}
