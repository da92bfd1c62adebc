"""The store that a test works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow


@contextmanager
def tracking(uri: str) -> Iterator[None]:
    """This process and those that it starts work on the store ``uri``; afterwards on the one of before, if any.

    MLflow sets an environment variable with the store, which other tests' processes would inherit.
    """
    before = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
