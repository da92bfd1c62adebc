"""Runs an entry point of the project as a child of the active run, which may be that of another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs.lineage import children
from drone_cbf.tracking.runs.resuming import delete_retired_runs
from drone_cbf.tracking.runs.stage_run import StageRun, failure_reason
from drone_cbf.tracking.tags import FAILURE_TAG, INTERRUPTED, STAGE_TAG


@dataclass(frozen=True)
class ChildRun:
    """A finished nested run, with the last value of every metric."""

    run_id: str
    stage: str
    status: str
    seconds: float
    metrics: dict[str, float]


class StageFailed(DroneCbfError):
    """A nested stage ended without success."""

    def __init__(self, message: str, reason: str, run_id: str | None = None) -> None:
        """``reason``: as recorded by the stage; ``run_id``: its run, None if it could not start."""
        super().__init__(message)
        self.reason, self.run_id = reason, run_id


def run_child(
    run: StageRun, project: Path, entry: str, parameters: Mapping[str, str], name: str | None = None
) -> ChildRun:
    """Runs ``entry`` in the environment of this process, nested in ``run``; ``name`` of its run defaults to ``entry``.

    With a parameter ``resume_run`` the child is the resumed run, which stays nested where it was. Raises StageFailed
    with the stage, its run and the recorded reason.
    """
    resumed = parameters.get("resume_run")
    before = {child.info.run_id for child in _children(run)}
    try:
        settings = {"experiment_id": run.experiment_id, "run_name": name or entry, "parameters": dict(parameters)}
        # MLflow does not pass on env_manager: without it, it would prepare an environment for every child.
        submitted = mlflow.projects.run(str(project), entry, env_manager="local", **settings)
    except ExecutionException as error:
        started = [child for child in _children(run) if child.info.run_id not in before]
        # Others may have started beside it; MLflow names the one that has failed.
        started = [child for child in started if child.info.run_id in str(error)] or started
        if resumed and not started:
            started = [MlflowClient().get_run(resumed)]
        raise _failure(entry, started, error) from error
    finally:
        if resumed:
            delete_retired_runs(resumed, run.experiment_id)
    return finished_child(resumed or submitted.run_id)


@contextmanager
def inside(run_id: str, experiment_id: str, stage: str) -> Iterator[StageRun]:
    """Makes a run of another process the active one: runs that are started inside are nested in it.

    Its status ends as it is in the store by then.
    """
    mlflow.start_run(run_id=run_id)
    try:
        yield StageRun(run_id, experiment_id, stage)
    finally:
        mlflow.end_run(MlflowClient().get_run(run_id).info.status)


def finished_child(run_id: str) -> ChildRun:
    """A run that has ended."""
    child = MlflowClient().get_run(run_id)
    seconds = (child.info.end_time - child.info.start_time) / 1000.0
    stage = child.data.tags.get(STAGE_TAG, "")
    return ChildRun(run_id, stage, child.info.status, seconds, dict(child.data.metrics))


def _failure(entry: str, started: Sequence[Run], error: ExecutionException) -> StageFailed:
    """The error of a child; ``started``: its run, if there is one."""
    if not started:
        return StageFailed(f"stage {entry} could not start: {error}", failure_reason(error))
    failed = started[-1]
    reason = failed.data.tags.get(FAILURE_TAG, "no reason was recorded: see its output above")
    if reason.startswith(INTERRUPTED):  # and so was the run above it
        return StageFailed(
            f"{INTERRUPTED}: stage {entry} (run {failed.info.run_id}) was {reason}", reason, failed.info.run_id
        )
    return StageFailed(f"stage {entry} failed (run {failed.info.run_id}): {reason}", reason, failed.info.run_id)


def _children(run: StageRun) -> list[Run]:
    return children(MlflowClient().get_run(run.run_id))
