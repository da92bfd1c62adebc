"""Which code, packages and kind of environment a run is made with."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from drone_cbf.tracking.tags import COMMIT_TAG, DIRTY_TAG, VERSIONS_TAG

_PACKAGES = ("drone_cbf", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "mlflow", "numpy", "qpax")


def provenance(project: Path) -> dict[str, str]:
    """Tags: versions, kind of environment, and the git commit of the folder ``project`` (none outside a repository)."""
    versions = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    versions.append(f"python {platform.python_version()}")
    tags = {VERSIONS_TAG: ", ".join(versions), "drone_cbf.environment": environment()}
    if commit := _git(project, "rev-parse", "HEAD"):
        tags[DIRTY_TAG] = "true" if _git(project, "status", "--porcelain") else "false"
        tags[COMMIT_TAG] = commit
    return tags


def environment() -> str:
    """The kind of Python environment: ``conda``, ``venv`` (virtual environment) or ``local`` (neither)."""
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda"
    return "venv" if sys.prefix != sys.base_prefix else "local"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
