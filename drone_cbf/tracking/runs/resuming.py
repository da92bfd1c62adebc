"""Goes on with an interrupted run: what it has stored so far, and the state from which to repeat its last steps.

The repeated steps are identical, so whatever the store already holds is not logged a second time.
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
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from drone_cbf.errors import LineageError
from drone_cbf.tracking.checkpoints.store import delete_checkpoint, is_complete
from drone_cbf.tracking.links import run_page
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
"""Checkpoints from which an interrupted run goes on: ``progress_<step>``."""
_EVENT = re.compile(r"^- step (\d+): (.*)$", re.MULTILINE)


@dataclass
class Stored:
    """What a run holds already."""

    last_steps: dict[str, int] = field(default_factory=dict)
    """Of each metric the last step that is stored."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The stored figures, one row per step, as a recorder was given them."""
    events: list[tuple[int, str]] = field(default_factory=list)

    def beyond(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of ``values`` that the store does not hold yet."""
        return {name: value for name, value in values.items() if step > self.last_steps.get(name, -1)}


def check_resumable(run_id: str, stage: str) -> None:
    """Refuses a run that there is nothing to go on with.

    Raises:
        LineageError: no such run, another stage, finished, still running, or interrupted before it began.
    """
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        where = mlflow.get_tracking_uri()
        raise LineageError(f"resume_run '{run_id}' was not found in {where}; check the run ID") from error
    found = run.data.tags.get(STAGE_TAG)
    if found != stage:
        called = f"a run of stage {found}" if found else "no run of this project"
        remedy = f"resume it with -e {found}" if found else f"name an interrupted {stage} run"
        raise LineageError(f"resume_run {run_id} is {called}, not of {stage}; {remedy}")
    if run.info.lifecycle_stage != "active":
        raise LineageError(f"resume_run {run_id} is deleted; restore it first (mlflow runs restore --run-id {run_id})")
    if run.info.status == "FINISHED":
        raise LineageError(f"resume_run {run_id} has finished: there is nothing to resume; start a new run")
    process = run.data.tags.get(PROCESS_TAG, "")
    if run.info.status == "RUNNING" and _alive(process):
        raise LineageError(f"resume_run {run_id} is still running ({process}); wait for it, or end that process")
    if run.info.status == "RUNNING" and _elsewhere(process):
        raise LineageError(
            f"resume_run {run_id} is said to run on another machine ({process}): two would write into it; wait for it, "
            "or, if it is dead, say so first: "
            f"python -c \"import mlflow; mlflow.MlflowClient().set_terminated('{run_id}', 'KILLED')\""
        )
    if not any(file.path == CONFIG_FILE for file in MlflowClient().list_artifacts(run_id)):
        raise LineageError(f"resume_run {run_id} was interrupted before it stored {CONFIG_FILE}; start a new run")


def put_aside(prepared: str, resumed: str) -> None:
    """Ends the run that was prepared for a process that goes on with another one: it holds nothing.

    It is deleted, unless ``mlflow run`` has prepared it, which sets its status when the process is over and fails where
    the run is deleted: that one is folded under the ``resumed`` run.
    """
    mlflow.end_run("FINISHED")
    client = MlflowClient()
    run = client.get_run(prepared)
    if MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags:
        client.delete_run(prepared)
        return
    page = run_page(resumed, client.get_run(resumed).info.experiment_id)
    note = f"Went on with [{resumed}]({page}), which holds all of it."
    tags = {RESUMES_TAG: resumed, NESTED_TAG: resumed, MLFLOW_RUN_NAME: "resumption", NOTE_TAG: note}
    client.log_batch(prepared, tags=[RunTag(key, text) for key, text in tags.items()])


def discard_prepared(resumed: str, experiment_id: str) -> None:
    """Deletes what ``put_aside`` has kept for ``mlflow run``, once that is over."""
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
    """This process, told apart from a later one of the same number."""
    this = psutil.Process()
    return f"process {this.pid} on {socket.gethostname()} since {this.create_time():.0f}"


_PROCESS_NAME = re.compile(r"process (\d+) on (\S+) since (\d+)")


def _elsewhere(name: str) -> bool:
    """Whether it names a process of another host: nothing is known of that."""
    found = _PROCESS_NAME.fullmatch(name)
    return bool(found) and found[2] != socket.gethostname()


def _alive(name: str) -> bool:
    """Whether the process is one of this host and runs."""
    found = _PROCESS_NAME.fullmatch(name)
    if not found or found[2] != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(found[1])).create_time():.0f}" == found[3]
    except psutil.NoSuchProcess:
        return False


def read_stored(run_id: str) -> Stored:
    """Metrics and events of the run, all of them."""
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
    """Name of the newest complete progress checkpoint; None where the run was interrupted before its first."""
    complete = [name for name in progress_names(run_id) if is_complete(run_id, name)]
    return complete[-1] if complete else None


def progress_names(run_id: str) -> list[str]:
    """Names of all progress checkpoints, complete or not, oldest first."""
    names = [file.path.rpartition("/")[2] for file in MlflowClient().list_artifacts(run_id, "checkpoints")]
    return sorted((name for name in names if name.startswith(PROGRESS)), key=lambda name: int(name[len(PROGRESS) :]))


def delete_progress(run_id: str, keep: str = "") -> None:
    """Removes the progress checkpoints of the run but ``keep``."""
    for name in progress_names(run_id):
        if name != keep:
            delete_checkpoint(run_id, name)
