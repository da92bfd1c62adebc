"""How the run of a stage begins: a new one, or the one that ``mlflow run`` has prepared, if nothing is in it yet."""

from __future__ import annotations

import logging
import os

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError, LineageError
from drone_cbf.tracking import tags as names
from drone_cbf.tracking.folders import check_writable
from drone_cbf.tracking.runs import presentation
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.runs.tracking_store import prepare_store, require_store, store_place

GIVEN = "MLFLOW_RUN_ID"
"""Environment variable that names the prepared run."""


def start_run(stage: str, needs: str = "", above: str = "") -> mlflow.ActiveRun:
    """Starts the run of ``stage``, or adopts the prepared one; it names its process from the first moment.

    Args:
        stage: becomes its tag; empty for a run that only stands in for another one.
        needs: what must be in the store already, for messages; empty where the store may be a new one.
        above: the run that it is nested in, of this process; empty for none, or for what ``mlflow run`` has prepared.
    """
    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # start and end are not worth a line
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a call stack for errors that it raises too
    given = os.environ.get(GIVEN, "")
    if given or needs:
        require_store(f"run {given}" if given else needs)
    try:
        prepare_store()
        if given:
            check_adoptable(MlflowClient().get_run(given))
        tags = {names.PROCESS_TAG: process_name()} | ({names.STAGE_TAG: stage} if stage else {})
        active = _start(tags, above)
    except MlflowException as error:
        reason = f"{' '.join(str(error).split())}; check MLFLOW_TRACKING_URI"
        if error.get_http_status_code() == 401 or "error code 401" in str(error):
            variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            reason = f"user name or password is wrong or missing; check {variables}"
        raise DroneCbfError(f"no run can be started in {store_place()}: {reason}") from error
    try:
        check_writable(active.info.run_id, active.info.artifact_uri)
    except DroneCbfError as error:
        MlflowClient().set_tag(active.info.run_id, names.FAILURE_TAG, str(error))
        mlflow.end_run("FAILED")
        raise
    return active


def check_adoptable(run: Run) -> None:
    """LineageError if the run holds anything of a stage: what was recorded once is never written over."""
    held = run.data.tags.get(names.STAGE_TAG, "")
    if not (held or run.data.metrics or MlflowClient().list_artifacts(run.info.run_id)):
        return
    what = f"the results of {held}" if held else "results"
    raise LineageError(
        f"run {run.info.run_id} (environment variable {GIVEN}) holds {what} and is not written over; unset {GIVEN}, "
        "or go on with an interrupted run with -P resume_run=<run id>"
    )


def _start(tags: dict[str, str], above: str) -> mlflow.ActiveRun:
    """A new run has its tags from the beginning; a prepared one, which begins anew, loses an earlier failure's."""
    if above:
        tags |= {names.NESTED_TAG: above}
        return mlflow.start_run(experiment_id=MlflowClient().get_run(above).info.experiment_id, tags=tags)
    chosen = {GIVEN, "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"} & os.environ.keys()
    experiment = None if chosen else presentation.own_experiment(MlflowClient())
    active = mlflow.start_run(experiment_id=experiment, tags=tags)
    if names.FAILURE_TAG in active.data.tags:
        MlflowClient().delete_tag(active.info.run_id, names.FAILURE_TAG)
    return active
