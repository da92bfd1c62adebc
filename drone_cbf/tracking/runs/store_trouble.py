"""Faults of the machine or of the store that nothing in the project can repair: full, read-only, not reached."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

_CAUSES = {
    "no space left on device": "the disk is full: free some room",
    "database or disk is full": "the disk is full: free some room",
    "disk quota exceeded": "the disk quota is used up: free some room",
    "read-only file system": "the file system is read-only: make it writable",
    "attempt to write a readonly database": "the database is read-only: make it writable",
    "permission denied": "a file or folder may not be written: change its permissions",
    "disk i/o error": "the disk reports an error: check it",
    "unable to open database file": "the database cannot be opened: check its folder and permissions",
    "database is locked": "another program holds the database: end it",
    "max retries exceeded": "the tracking server cannot be reached: start it",
    "connection refused": "the tracking server cannot be reached: start it",
}
"""Part of what MLflow, sqlite or the system says -> what it means, and the remedy."""
_NOISE = re.compile(r"\(raised as a result of [^)]*\) |\(Background on this error [^)]*\)")
_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


def store_trouble(error: BaseException) -> str:
    """What a fault of the store means and its remedy, on one line; empty for any other error."""
    for one in _chain(error):
        text = _NOISE.sub("", " ".join(str(one).split())).partition(" [SQL")[0]
        if isinstance(one, (OSError, MlflowException)) or "sqlalchemy" in type(one).__module__:
            for part, meaning in _CAUSES.items():
                if part in text.lower():
                    return f"{meaning}, then resume the run or repeat it ({text[:200]})"
        if isinstance(one, OSError) and one.errno in _NUMBERS:
            return f"a file could not be written: check the disk, then resume the run or repeat it ({text[:200]})"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
