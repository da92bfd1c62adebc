"""Resumes an interrupted run: its metrics and events so far, and the state from which to repeat its last steps.

The repeated steps are identical, so values that the store holds already are not logged a second time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from drone_cbf.errors import LineageError
from drone_cbf.tracking import tags as names
from drone_cbf.tracking.checkpoints.store import delete_checkpoint, is_complete
from drone_cbf.tracking.folders import missing_root
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.runs.claims import exclusive, run_tags
from drone_cbf.tracking.runs.lineage import get_active_run, stage_text
from drone_cbf.tracking.runs.presentation import set_tags
from drone_cbf.tracking.runs.processes import process_name, state_of

PROGRESS = "progress_"  # Checkpoints from which an interrupted run is resumed: ``progress_<step>``
_EVENT = re.compile(r"^- step (\d+): (.*)$", re.MULTILINE)


@dataclass
class Stored:
    """What a run holds already: last step of each metric, metrics as one row per step, and events."""

    last_steps: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def new_values(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of ``values`` that are not stored yet."""
        return {name: value for name, value in values.items() if step > self.last_steps.get(name, -1)}


def check_resumable(run_id: str, stage: str) -> None:
    """LineageError if there is no such run, or it is of another stage, finished, still running, or never began."""
    wanted = f"an interrupted {stage} run"
    run = get_active_run(run_id, "resume_run", wanted)
    found = run.data.tags.get(names.STAGE_TAG)
    if found != stage:
        remedy = f"resume it with -e {names.entry_of(run.data.tags)}" if found else f"name {wanted}"
        raise LineageError(f"resume_run {run_id} is {stage_text(found)}, not of {stage}; {remedy}")
    if run.info.status == "FINISHED":
        raise LineageError(f"resume_run {run_id} has finished: there is nothing to resume; start a new run")
    process = run.data.tags.get(names.PROCESS_TAG, "")
    state = state_of(process) if run.info.status == "RUNNING" else "gone"
    if state == "elsewhere":
        mark = f"python -c \"import mlflow; mlflow.MlflowClient().set_terminated('{run_id}', 'KILLED')\""
        raise LineageError(
            f"resume_run {run_id} may be running on another machine ({process}); wait for it, or, if it has died, "
            f"mark it first: {mark}"
        )
    if state == "running":
        raise LineageError(f"resume_run {run_id} is still running ({process}); wait for it, or end that process")
    needed = names.PLAN_FILE if stage in names.GROUPS else names.CONFIG_FILE
    if not _has_file(run_id, needed):
        moved = f", or {missing}" if (missing := missing_root(run)) else ""
        raise LineageError(f"resume_run {run_id} was interrupted before it stored {needed}{moved}; start a new run")


@contextmanager
def taking_over(run_id: str, stage: str) -> Iterator[None]:
    """One process at a time makes an interrupted run its own; a second one is told that it is running.

    Raises LineageError as :func:`check_resumable`.
    """
    get_active_run(run_id, "resume_run", f"an interrupted {stage} run")
    with exclusive(run_tags(run_id), f"resume_run {run_id}"):
        check_resumable(run_id, stage)
        yield
        set_tags(run_id, {names.PROCESS_TAG: process_name()})


def retire_prepared_run(prepared: str, resumed: str) -> None:
    """Ends the empty run that was prepared for a process that resumes another one, and deletes it.

    If ``mlflow run`` prepared it, it is nested under the ``resumed`` run instead: ``mlflow run`` sets its status when
    the process ends, and fails if the run is deleted.
    """
    mlflow.end_run("FINISHED")
    client = MlflowClient()
    if MLFLOW_PROJECT_ENTRY_POINT not in client.get_run(prepared).data.tags:
        _delete_run(prepared)
        return
    page = run_page(resumed, client.get_run(resumed).info.experiment_id)
    note = f"Resumed [{resumed}]({page}), which holds all results."
    links = dict.fromkeys((names.RESUMES_TAG, names.NESTED_TAG), resumed)
    set_tags(prepared, {**links, MLFLOW_RUN_NAME: "resumption", names.NOTE_TAG: note})


def delete_retired_runs(resumed: str, experiment_id: str) -> None:
    """Deletes the runs that :func:`retire_prepared_run` kept, after ``mlflow run`` has ended."""
    client = MlflowClient()
    for run in client.search_runs([experiment_id], f"tags.`{names.RESUMES_TAG}` = '{resumed}'"):
        _delete_run(run.info.run_id)


def _delete_run(run_id: str) -> None:
    """Where the right to delete is missing, an empty run stays: no reason not to go on."""
    with suppress(MlflowException):
        MlflowClient().delete_run(run_id)


def reopen(run_id: str) -> mlflow.ActiveRun:
    """Makes the interrupted run the active one; it no longer says that it failed."""
    client = MlflowClient()
    tags = client.get_run(run_id).data.tags
    if names.FAILURE_TAG in tags:
        client.delete_tag(run_id, names.FAILURE_TAG)
    client.set_tag(run_id, names.RESUMED_TAG, str(int(tags.get(names.RESUMED_TAG, "0")) + 1))
    return mlflow.start_run(run_id=run_id)


def read_stored(run_id: str) -> Stored:
    """All metrics and events of the run."""
    client = MlflowClient()
    metrics = [name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")]
    histories = {name: client.get_metric_history(run_id, name) for name in metrics}
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for name, history in histories.items():
        for metric in history:
            rows[metric.step] |= {"step": float(metric.step), name: metric.value}
    last_steps = {name: max(metric.step for metric in history) for name, history in histories.items()}
    file = names.EVENTS_FILE
    page = mlflow.artifacts.load_text(f"runs:/{run_id}/{file}") if _has_file(run_id, file) else ""
    events = [(int(step), text) for step, text in _EVENT.findall(page)]
    return Stored(last_steps, [rows[step] for step in sorted(rows)], events)


def append_event(run_id: str, text: str) -> None:
    """Adds an event to those of a run that has ended, at its last step."""
    stored = read_stored(run_id)
    step = max(stored.last_steps.values(), default=0)
    lines = [f"- step {number}: {event}" for number, event in (*stored.events, (step, text))]
    mlflow.log_text("\n".join(lines) + "\n", names.EVENTS_FILE, run_id=run_id)


def can_resume(run_id: str, stage: str) -> bool:
    """Whether an interrupted run holds something to go on from."""
    return _has_file(run_id, names.PLAN_FILE) if stage in names.GROUPS else latest_progress(run_id) is not None


def _has_file(run_id: str, name: str) -> bool:
    return any(file.path == name for file in MlflowClient().list_artifacts(run_id))


def latest_progress(run_id: str) -> str | None:
    """Name of the newest complete progress checkpoint; None if there is none."""
    return next((name for name in reversed(progress_names(run_id)) if is_complete(run_id, name)), None)


def progress_names(run_id: str) -> list[str]:
    """Names of all progress checkpoints, complete or not, oldest first."""
    found = [file.path.rpartition("/")[2] for file in MlflowClient().list_artifacts(run_id, "checkpoints")]
    return sorted((name for name in found if name.startswith(PROGRESS)), key=lambda name: int(name[len(PROGRESS) :]))


def delete_progress(run_id: str, keep: str = "") -> str:
    """Deletes the progress checkpoints of the run except ``keep``; why it could not, on one line, or an empty text.

    What is left costs room and nothing else: whatever goes wrong here must not end a training.
    """
    try:
        for name in progress_names(run_id):
            if name != keep:
                delete_checkpoint(run_id, name)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"replaced progress checkpoints could not be deleted ({reason}); delete them when nobody needs the run"
    return ""
