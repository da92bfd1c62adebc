"""Runs that say they are running although nobody writes them any more: their process, or the machine, was stopped."""

from __future__ import annotations

from contextlib import suppress

import mlflow
import psutil
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking import tags as names
from drone_cbf.tracking.runs.claims import exclusive, run_tags
from drone_cbf.tracking.runs.presentation import set_tags
from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.runs.starting import GIVEN
from drone_cbf.tracking.runs.tracking_store import store_file


def mark_abandoned(own: str) -> list[Run]:
    """Ends every run whose process on this host is gone, KILLED and with the reason; those of stages, oldest first.

    Runs of other hosts are not judged, nor is ``own``. A run that ``mlflow run`` prepared for a stage which never began
    names no process: it is judged where the store is a file of this machine.
    """
    query, order = "attributes.status = 'RUNNING'", ["attributes.start_time ASC"]
    running = mlflow.search_runs(None, query, order_by=order, output_format="list", search_all_experiments=True)
    others = [run for run in running if run.info.run_id != own]
    ended = [run.info.run_id for run in others if names.PROCESS_TAG in run.data.tags and _mark(run)]
    for run in _prepared_in_vain(others):
        _end(run.info.run_id, "'mlflow run' ended before the stage began")
    marked = [MlflowClient().get_run(run_id) for run_id in ended]
    return [run for run in marked if names.STAGE_TAG in run.data.tags]


def _mark(found: Run) -> bool:
    """Ends the run unless its process runs, or another process is just taking it over."""
    run_id = found.info.run_id
    if state_of(found.data.tags[names.PROCESS_TAG]) != "gone":
        return False
    client = MlflowClient()
    with suppress(DroneCbfError, MlflowException), exclusive(run_tags(run_id), f"run {run_id}"):
        run = client.get_run(run_id)
        process = run.data.tags[names.PROCESS_TAG]
        if run.info.status != "RUNNING" or state_of(process) != "gone":
            return False
        _end(run_id, f"{process} is gone")
        if names.STAGE_TAG not in run.data.tags and not _is_awaited(run):
            client.delete_run(run_id)  # it stood in for a run that was to be resumed
        return True
    return False


def _is_awaited(run: Run) -> bool:
    """Whether an ``mlflow run`` may yet set its status, and fail where it is deleted."""
    return MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and names.NESTED_TAG not in run.data.tags


def _end(run_id: str, reason: str) -> None:
    set_tags(run_id, {names.FAILURE_TAG: f"{names.INTERRUPTED} ({reason})"})
    MlflowClient().set_terminated(run_id, "KILLED")


def _prepared_in_vain(running: list[Run]) -> list[Run]:
    """Prepared runs whose stage never began, and which no process of this machine is about to begin."""
    unknown = [
        run for run in running if MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and names.PROCESS_TAG not in run.data.tags
    ]
    given = _given_runs() if unknown and store_file() else None
    return [] if given is None else [run for run in unknown if run.info.run_id not in given]


def _given_runs() -> set[str] | None:
    """The run IDs that processes of this machine were given; None where an ``mlflow run`` has not passed its on yet."""
    given: dict[int, str] = {}
    launchers, parents = set(), {}
    for process in psutil.process_iter():
        try:
            given[process.pid] = process.environ().get(GIVEN, "")
            words, parents[process.pid] = process.cmdline(), process.ppid()
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:  # another user's, who writes to another store or to a server
            continue
        if "run" in words and any(word.rpartition("/")[2] == "mlflow" for word in words):
            launchers.add(process.pid)
    passed_on = {parents[pid] for pid, run_id in given.items() if run_id}
    return {*given.values()} - {""} if launchers <= passed_on else None
