"""A dry run leaves no run, not even the one that ``mlflow run`` creates before it starts an entry point."""

from __future__ import annotations

import os

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT


def discard_adopted() -> None:
    """Deletes the run that ``mlflow run`` has created for this process, if there is one and it holds nothing.

    It is ended first: ``mlflow run`` then leaves it alone when this process is over.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return
    client = MlflowClient()
    run = client.get_run(run_id)
    is_empty = not run.data.metrics and not client.list_artifacts(run_id)
    if MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and run.info.status == "RUNNING" and is_empty:
        client.set_terminated(run_id, "FINISHED")
        client.delete_run(run_id)
