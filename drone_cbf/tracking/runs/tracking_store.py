"""Makes the tracking store ready before MLflow opens it, however many processes start at once.

MLflow creates the tables of a missing sqlite file without a lock: of several processes that start at once most fail,
and the file may stay broken. Here one process builds a new file under a lock and moves it into place complete.
``python -m drone_cbf.tracking.runs.tracking_store`` does this for the store that a command started in the same folder
would use.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH

from drone_cbf.errors import DroneCbfError

_SCHEME = "sqlite:///"
LOCK_TIMEOUT = 120.0  # Longest wait for the lock [s]; creating the tables takes a few seconds


def store_file() -> Path | None:
    """The file of the active store, with its whole path; None if the store is no sqlite file."""
    uri = mlflow.get_tracking_uri()
    path = uri.removeprefix(_SCHEME).partition("?")[0]
    return Path(path).absolute() if uri.startswith(_SCHEME) and path not in ("", ":memory:") else None


def store_place() -> str:
    """How messages name the active store: its address, a file with its whole path."""
    file = store_file()
    return f"{_SCHEME}{file}" if file else mlflow.get_tracking_uri()


def require_store(wanted: str) -> None:
    """DroneCbfError if the active store is a sqlite file that does not exist; ``wanted``: what it should hold.

    Nothing is created: a new store would hold nothing of the kind, and lie where nobody looks for it.
    """
    file = store_file()
    if file is None or _has_content(file):
        return
    remedy = "set MLFLOW_TRACKING_URI to the store that holds it, or change to its folder"
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if given.startswith(_SCHEME) and not given.startswith(f"{_SCHEME}/"):
        told = f"MLFLOW_TRACKING_URI = {given} is relative to the folder in which each command runs, here {Path.cwd()}"
        remedy = f"{told}: give the whole path, as in {_SCHEME}/home/me/runs/mlflow.db"
    raise DroneCbfError(f"{wanted} cannot be found: there is no store {file}; {remedy}")


def prepare_store() -> None:
    """Creates the active store if it is a missing or empty sqlite file; DroneCbfError if it cannot be, or is locked."""
    file = store_file()
    if file is None or _has_content(file):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=LOCK_TIMEOUT):
            if not _has_content(file):
                _create(file)
    except Timeout as error:
        remedy = f"if there is none, delete {error.lock_file} and start again"
        message = f"{file} is locked for more than {LOCK_TIMEOUT:.0f} s by a process that creates it; {remedy}"
        raise DroneCbfError(message) from error
    except OSError as error:
        remedy = "make its folder writable, or set MLFLOW_TRACKING_URI"
        raise DroneCbfError(f"{file} cannot be created ({error.strerror}); {remedy}") from error


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _create(file: Path) -> None:
    """Builds the tables in a temporary file, so that no other process ever sees a part of them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix=f"{file.name}-", dir=file.parent) as folder:
        new = Path(folder) / file.name
        store = SqlAlchemyStore(f"{_SCHEME}{new}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        new.replace(file)


if __name__ == "__main__":
    prepare_store()
