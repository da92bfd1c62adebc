"""The run that ``mlflow run`` creates before it starts an entry point, where that turns out to be a dry run."""

from __future__ import annotations

import os

from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME

from drone_cbf.tracking.tags import NOTE_TAG


def mark_dry_run(entry: str, text: str) -> None:
    """Names the run that ``mlflow run`` has created for this process ``<entry>-dry-run``, and describes it by ``text``.

    It stays: ``mlflow run`` sets its status in the end, and fails where it is deleted.
    """
    run_id, client = os.environ.get("MLFLOW_RUN_ID"), MlflowClient()
    if run_id and MLFLOW_PROJECT_ENTRY_POINT in client.get_run(run_id).data.tags:
        tags = {MLFLOW_RUN_NAME: f"{entry}-dry-run", "drone_cbf.dry_run": "true", NOTE_TAG: f"```\n{text}\n```"}
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
