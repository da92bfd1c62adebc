"""The first use of a fresh sqlite store, made safe for many processes that start together.

MLflow creates the tables of a missing sqlite file without a lock: of several processes that start at once most die, and
the file can stay broken. Here the file is opened under a lock beside it. ``open_sqlite_store`` is registered as
MLflow's tracking store for ``sqlite`` URIs (``pyproject.toml``, group ``mlflow.tracking_store``), because
``mlflow run`` and ``mlflow ui`` open the store before any code of this project runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from drone_cbf.errors import DroneCbfError

# Nothing of mlflow is imported here: it loads this module while it is itself being imported.
_SCHEME = "sqlite:///"
PATIENCE = 120.0
"""How long to wait for the lock [s]; creating the tables takes a few seconds."""


def open_sqlite_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """MLflow's own store for ``store_uri``; its tables are created by one process, while the others wait."""
    from mlflow.tracking._tracking_service.utils import _get_sqlalchemy_store

    with first_use(store_uri):
        return _get_sqlalchemy_store(store_uri, artifact_uri)


@contextmanager
def first_use(uri: str) -> Iterator[None]:
    """Only one process at a time is here with the same sqlite file.

    Raises:
        DroneCbfError: the lock was not free within ``PATIENCE``.
    """
    file = Path(uri.removeprefix(_SCHEME).partition("?")[0])
    if not uri.startswith(_SCHEME) or str(file) in (".", ":memory:") or not file.parent.is_dir():
        yield  # nothing to share, or nothing that could be created: MLflow says what is wrong
        return
    lock = FileLock(f"{file}.lock", timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise DroneCbfError(
            f"{file} was not free within {PATIENCE:.0f} s: another process creates it; if none does, "
            f"delete {lock.lock_file} and start again"
        ) from error
    except OSError:
        if not file.exists():
            raise
        yield  # a folder that may only be read: the tables are there
        return
    try:
        yield
    finally:
        lock.release()
