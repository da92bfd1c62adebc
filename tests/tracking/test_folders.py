"""A store that was moved says which folder is missing, in place of blaming the run."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import CheckpointError, LineageError
from drone_cbf.tracking.checkpoints.store import load_checkpoint
from drone_cbf.tracking.runs.lineage import find, load_config, resolve_parent
from drone_cbf.tracking.runs.resuming import check_resumable
from tests.tracking.test_lineage import make_run


def folder_of(run_id: str) -> Path:
    return Path(urlparse(MlflowClient().get_run(run_id).info.artifact_uri).path)


@pytest.fixture
def moved(experiment: str) -> str:
    """A run of a store whose artifact folder was moved afterwards."""
    run_id = make_run(experiment, "efficiency")
    root = folder_of(run_id).parents[1]
    root.rename(root.with_name(f"{root.name}-moved"))
    return run_id


def test_reading_names_the_folder_that_is_missing_and_the_remedy(moved: str) -> None:
    missing = f"its artifact folder {folder_of(moved).parents[1]} is missing; bring it back"
    with pytest.raises(LineageError, match=f"run {moved} has no readable config.yaml: {missing}"):
        load_config(moved)
    with pytest.raises(CheckpointError, match=f"checkpoints/final of run {moved} cannot be read: {missing}"):
        load_checkpoint(moved, "final")
    MlflowClient().update_run(moved, status="FAILED")
    with pytest.raises(LineageError, match=f"resume_run {moved} was interrupted before .*, or {missing}"):
        check_resumable(moved, "efficiency")


def test_a_single_runs_folder_is_named_too(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency")
    folder = folder_of(run_id)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(LineageError, match=f"its artifact folder {folder} is missing"):
        resolve_parent(run_id, ["efficiency"])


def test_a_purged_ancestor_is_named_with_the_run_that_builds_on_it(experiment: str) -> None:
    run_id = make_run(experiment, "pretrain_cbf", parent_run="0" * 32)
    expected = f"run {'0' * 32}, which run {run_id} builds on, is not in sqlite:///.* any more; restore the store"
    with pytest.raises(LineageError, match=expected):
        find(run_id, "policy")
    with pytest.raises(LineageError, match="is a run of stage pretrain_cbf, expected a finished efficiency run"):
        resolve_parent(run_id, ["efficiency"])


def test_a_deleted_ancestor_still_serves(experiment: str) -> None:
    first = make_run(experiment, "efficiency", provides="policy")
    second = make_run(experiment, "pretrain_cbf", parent_run=first)
    MlflowClient().delete_run(first)
    assert find(second, "policy") == first


def test_the_beginning_of_an_id_is_answered_with_the_whole(experiment: str) -> None:
    run_id = make_run(experiment, "efficiency")
    with pytest.raises(LineageError, match=rf"parent_run '{run_id[:8]}' was not found .* \(did you mean {run_id}\?\)"):
        resolve_parent(run_id[:8], ["efficiency"])
