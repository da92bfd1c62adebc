"""The store that runs go to, made ready: tables and experiment exist once, however many processes begin together."""

from __future__ import annotations

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.first_use import open_sqlite_store


def prepare_store() -> None:
    """Creates the tables of the active store where it is a fresh sqlite file.

    For environments in which this package is on the path without being installed, as under conda: there MLflow does not
    find ``open_sqlite_store`` by itself.
    """
    uri = mlflow.get_tracking_uri()
    if uri.startswith("sqlite"):
        open_sqlite_store(uri)


def get_or_create_experiment(name: str) -> str:
    """ID of the experiment, whichever of several processes creates it."""
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
