"""Artifact folders that are not where the store says: moved, deleted, or on another machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from mlflow.entities import Run

from drone_cbf.errors import DroneCbfError


def local_folder(uri: str) -> Path | None:
    """The folder of this machine that an artifact address means; None for a server or an object store."""
    parts = urlparse(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def missing_folder(run: Run) -> str:
    """What is missing, and the remedy, where the run's artifact folder is on this machine and gone; else empty."""
    folder = local_folder(run.info.artifact_uri)
    return missing_root(run) or (_missing(folder) if folder and not folder.is_dir() else "")


def missing_root(run: Run) -> str:
    """The same where the folder of the whole experiment is gone: what the run stored cannot be known."""
    folder = local_folder(run.info.artifact_uri)
    root = folder.parents[1] if folder and len(folder.parents) > 1 else None
    return _missing(root) if root and not root.is_dir() else ""


def _missing(folder: Path) -> str:
    where = f"its artifact folder {folder} is missing"
    return f"{where}; bring it back to that place (a link will do), for {mlflow.get_tracking_uri()} names it so"


def check_writable(run_id: str, artifact_uri: str) -> None:
    """DroneCbfError where the run's artifacts would go to a folder that this process cannot write."""
    folder = local_folder(artifact_uri)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"artifacts of run {run_id} cannot be stored in {folder} ({error.strerror})"
        remedy = "make that folder writable"
        if mlflow.get_tracking_uri().startswith("http"):
            remedy = "it is a folder of the server's: start the server with --serve-artifacts and a new experiment"
        raise DroneCbfError(f"{reason}; {remedy}") from error
