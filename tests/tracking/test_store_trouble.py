from __future__ import annotations

import errno
import sqlite3

import pytest
from mlflow.exceptions import MlflowException

from drone_cbf.errors import TrainingError
from drone_cbf.tracking.runs.stage_run import failure_reason
from drone_cbf.tracking.runs.store_trouble import store_trouble

FULL = "(raised as a result of Query-invoked autoflush; consider) (sqlite3.OperationalError) database or disk is full"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/mlruns/x"), "the disk is full: free some room"),
        (OSError(errno.EROFS, "Read-only file system", "/mlruns/x"), "the file system is read-only: make it writable"),
        (PermissionError(errno.EACCES, "Permission denied", "/mlruns/x"), "may not be written: change its permissions"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (MlflowException(f"{FULL} [SQL: UPDATE runs\nSET status=?]"), "the disk is full"),
        (MlflowException("attempt to write a readonly database"), "the database is read-only"),
        (MlflowException("API request failed: Max retries exceeded with url"), "the tracking server cannot be reached"),
    ],
)
def test_a_fault_of_disk_or_server_is_one_line_with_the_remedy(error: Exception, told: str) -> None:
    line = store_trouble(error)
    assert told in line and "then resume the run or repeat it" in line
    assert "\n" not in line and "SQL:" not in line and "raised as a result" not in line
    assert failure_reason(error) == line


def test_a_cause_counts_and_other_errors_are_not_blamed_on_the_store() -> None:
    caused = MlflowException("could not write")
    caused.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in store_trouble(caused)
    assert store_trouble(ValueError("permission denied by the user")) == ""
    assert store_trouble(FileNotFoundError(errno.ENOENT, "No such file", "x.yaml")) == ""
    assert failure_reason(TrainingError("no space left on device in the gradient")).startswith("no space left")
    assert store_trouble(sqlite3.OperationalError("x")) == ""
