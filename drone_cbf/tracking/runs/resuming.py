"""Resumes an interrupted run: its metrics and events so far, and the state from which to repeat its last steps.

The repeated steps are identical, so values that the store holds already are not logged a second time.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import mlflow
import psutil
from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from drone_cbf.errors import LineageError
from drone_cbf.tracking.checkpoints.store import delete_checkpoint, is_complete
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.runs.lineage import get_active_run, stage_text
from drone_cbf.tracking.tags import (
    CONFIG_FILE,
    EVENTS_FILE,
    FAILURE_TAG,
    NESTED_TAG,
    NOTE_TAG,
    PROCESS_TAG,
    RESUMED_TAG,
    RESUMES_TAG,
    STAGE_TAG,
)

PROGRESS = "progress_"
"""Checkpoints from which an interrupted run is resumed: ``progress_<step>``."""
_EVENT = re.compile(r"^- step (\d+): (.*)$", re.MULTILINE)


@dataclass
class Stored:
    """Metrics and events that a run holds already."""

    last_steps: dict[str, int] = field(default_factory=dict)
    """Last stored step of each metric."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The stored metrics, one row per step, as a recorder received them."""
    events: list[tuple[int, str]] = field(default_factory=list)

    def new_values(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of ``values`` that are not stored yet."""
        return {name: value for name, value in values.items() if step > self.last_steps.get(name, -1)}


def check_resumable(run_id: str, stage: str) -> None:
    """Refuses a run that cannot be resumed.

    Raises:
        LineageError: no such run, another stage, finished, still running, or interrupted before it began.
    """
    wanted = f"an interrupted {stage} run"
    run = get_active_run(run_id, "resume_run", wanted)
    found = run.data.tags.get(STAGE_TAG)
    if found != stage:
        remedy = f"resume it with -e {found}" if found else f"name {wanted}"
        raise LineageError(f"resume_run {run_id} is {stage_text(found)}, not of {stage}; {remedy}")
    if run.info.status == "FINISHED":
        raise LineageError(f"resume_run {run_id} has finished: there is nothing to resume; start a new run")
    process = run.data.tags.get(PROCESS_TAG, "")
    if run.info.status == "RUNNING" and _is_running(process):
        raise LineageError(f"resume_run {run_id} is still running ({process}); wait for it, or end that process")
    if run.info.status == "RUNNING" and _on_another_host(process):
        raise LineageError(
            f"resume_run {run_id} may be running on another machine ({process}); wait for it, or, if it has died, "
            "mark it first: "
            f"python -c \"import mlflow; mlflow.MlflowClient().set_terminated('{run_id}', 'KILLED')\""
        )
    if not any(file.path == CONFIG_FILE for file in MlflowClient().list_artifacts(run_id)):
        raise LineageError(f"resume_run {run_id} was interrupted before it stored {CONFIG_FILE}; start a new run")


def retire_prepared_run(prepared: str, resumed: str) -> None:
    """Ends the empty run that was prepared for a process that resumes another one.

    It is deleted, unless ``mlflow run`` prepared it: that sets its status when the process ends, and fails if the run
    is deleted. Such a run is nested under the ``resumed`` run.
    """
    mlflow.end_run("FINISHED")
    client = MlflowClient()
    run = client.get_run(prepared)
    if MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags:
        client.delete_run(prepared)
        return
    page = run_page(resumed, client.get_run(resumed).info.experiment_id)
    note = f"Resumed [{resumed}]({page}), which holds all results."
    tags = {RESUMES_TAG: resumed, NESTED_TAG: resumed, MLFLOW_RUN_NAME: "resumption", NOTE_TAG: note}
    client.log_batch(prepared, tags=[RunTag(key, text) for key, text in tags.items()])


def delete_retired_runs(resumed: str, experiment_id: str) -> None:
    """Deletes the runs that :func:`retire_prepared_run` kept, after ``mlflow run`` has ended."""
    client = MlflowClient()
    for run in client.search_runs([experiment_id], f"tags.`{RESUMES_TAG}` = '{resumed}'"):
        client.delete_run(run.info.run_id)


def reopen(run_id: str) -> mlflow.ActiveRun:
    """Makes the interrupted run the active one; it no longer says that it failed."""
    client = MlflowClient()
    tags = client.get_run(run_id).data.tags
    if FAILURE_TAG in tags:
        client.delete_tag(run_id, FAILURE_TAG)
    client.set_tag(run_id, RESUMED_TAG, str(int(tags.get(RESUMED_TAG, "0")) + 1))
    return mlflow.start_run(run_id=run_id)


def process_name() -> str:
    """This process, with its start time: process IDs are reused."""
    this = psutil.Process()
    return f"process {this.pid} on {socket.gethostname()} since {this.create_time():.0f}"


_PROCESS_NAME = re.compile(r"process (\d+) on (\S+) since (\d+)")


def _on_another_host(name: str) -> bool:
    """Whether the process belongs to another host, where its state cannot be checked."""
    found = _PROCESS_NAME.fullmatch(name)
    return found is not None and found[2] != socket.gethostname()


def _is_running(name: str) -> bool:
    """Whether the process belongs to this host and is running."""
    found = _PROCESS_NAME.fullmatch(name)
    if not found or found[2] != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(found[1])).create_time():.0f}" == found[3]
    except psutil.NoSuchProcess:
        return False


def read_stored(run_id: str) -> Stored:
    """All metrics and events of the run."""
    client = MlflowClient()
    names = client.get_run(run_id).data.metrics
    histories = {name: client.get_metric_history(run_id, name) for name in names if not name.startswith("system/")}
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for name, history in histories.items():
        for metric in history:
            rows[metric.step] |= {"step": float(metric.step), name: metric.value}
    last_steps = {name: max(metric.step for metric in history) for name, history in histories.items()}
    return Stored(last_steps, [rows[step] for step in sorted(rows)], _read_events(run_id))


def _read_events(run_id: str) -> list[tuple[int, str]]:
    if not any(file.path == EVENTS_FILE for file in MlflowClient().list_artifacts(run_id)):
        return []
    page = mlflow.artifacts.load_text(f"runs:/{run_id}/{EVENTS_FILE}")
    return [(int(step), text) for step, text in _EVENT.findall(page)]


def latest_progress(run_id: str) -> str | None:
    """Name of the newest complete progress checkpoint; None if there is none."""
    complete = [name for name in progress_names(run_id) if is_complete(run_id, name)]
    return complete[-1] if complete else None


def progress_names(run_id: str) -> list[str]:
    """Names of all progress checkpoints, complete or not, oldest first."""
    names = [file.path.rpartition("/")[2] for file in MlflowClient().list_artifacts(run_id, "checkpoints")]
    return sorted((name for name in names if name.startswith(PROGRESS)), key=lambda name: int(name[len(PROGRESS) :]))


def delete_progress(run_id: str, keep: str = "") -> None:
    """Deletes the progress checkpoints of the run except ``keep``."""
    for name in progress_names(run_id):
        if name != keep:
            delete_checkpoint(run_id, name)
