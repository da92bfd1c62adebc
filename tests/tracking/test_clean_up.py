"""Deleting what is gone is success, and a clean-up that fails costs room, not a training."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from drone_cbf.tracking.checkpoints import store
from drone_cbf.tracking.checkpoints.store import delete_checkpoint, save_checkpoint
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
from drone_cbf.tracking.runs.resuming import append_event, delete_progress, progress_names, read_stored
from drone_cbf.tracking.runs.stage_run import StageRun


class FlatStore(ArtifactRepository):
    """Objects by name, as in a bucket: no folder outlives its content, and what is not there cannot be deleted."""

    def __init__(self, *files: str) -> None:
        self.files, self.refuses = set(files), False

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        from mlflow.entities import FileInfo

        below = {file.removeprefix(f"{path}/") for file in self.files if file.startswith(f"{path}/")}
        return [FileInfo(f"{path}/{name}", "/" in rest, 0) for name, _, rest in (f.partition("/") for f in below)]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        gone = {file for file in self.files if file == artifact_path or file.startswith(f"{artifact_path}/")}
        if not gone or self.refuses:
            raise OSError(f"404: {artifact_path}")
        self.files -= gone

    log_artifact = log_artifacts = _download_file = None  # type: ignore[assignment]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> FlatStore:
    found = FlatStore("checkpoints/progress_1/manifest.json", "checkpoints/progress_1/d/0", "checkpoints/final/x")
    monkeypatch.setattr(store, "get_artifact_repository", lambda uri: found)
    return found


def test_a_checkpoint_is_removed_from_a_store_without_folders(run: StageRun, bucket: FlatStore) -> None:
    delete_checkpoint(run.run_id, "progress_1")
    delete_checkpoint(run.run_id, "progress_1")
    assert bucket.files == {"checkpoints/final/x"}


def test_what_cannot_be_removed_and_stays_is_an_error(run: StageRun, bucket: FlatStore) -> None:
    bucket.refuses = True
    with pytest.raises(OSError, match="404: checkpoints/progress_1/manifest.json"):
        delete_checkpoint(run.run_id, "progress_1")


def test_a_clean_up_that_fails_is_an_event_and_the_training_goes_on(
    run: StageRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str, name: str) -> None:
        raise PermissionError("no right to delete")

    recorder = MlflowRecorder(run, between_states=0.0)
    save_checkpoint(run.run_id, "progress_1", {"step": 1})
    monkeypatch.setattr("drone_cbf.tracking.runs.resuming.delete_checkpoint", refuse)
    recorder.progress(2, {"step": 2})
    recorder.metrics(2, {"loss/total": 1.0})
    recorder.close()
    (event,) = read_stored(run.run_id).events
    assert event[0] == 2 and "could not be deleted (no right to delete)" in event[1]
    assert progress_names(run.run_id) == ["progress_1", "progress_2"]
    assert "no right to delete" in delete_progress(run.run_id)
    append_event(run.run_id, "later")
    assert read_stored(run.run_id).events == [event, (2, "later")]
