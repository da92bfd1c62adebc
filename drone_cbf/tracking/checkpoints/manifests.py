"""The manifest of a folder: SHA-256 and size of every file, written last and verified before anything is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drone_cbf.errors import CheckpointError

MANIFEST = "manifest.json"
_FORMAT = 1


def write_manifest(file: Path, folder: Path, **further: Any) -> None:
    """Writes the manifest of ``folder`` to ``file``, with ``further`` entries."""
    file.write_text(json.dumps({"format": _FORMAT, **further, "files": _digests(folder)}, indent=1))


def verify(folder: Path, describe: Callable[[str], str], remedy: str) -> None:
    """Compares every file below ``folder`` with the manifest in it.

    Args:
        describe: from the relative path of a file to how messages name it.
        remedy: ends each message.

    Raises:
        CheckpointError: the manifest cannot be read, or a file is missing, extra or altered.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected, version = dict(manifest["files"]), manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{describe(MANIFEST)} is missing or altered; {remedy}") from error
    if version != _FORMAT:
        raise CheckpointError(
            f"{describe(MANIFEST)} has format {version}, this version reads {_FORMAT}; update it, or {remedy}"
        )
    found = {name: digest for name, digest in _digests(folder).items() if name != MANIFEST}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise CheckpointError(
            f"{describe(wrong[0])} is missing or altered ({len(wrong)} of {len(expected)} files differ from "
            f"{MANIFEST}); {remedy}"
        )


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file below ``folder``, by relative path."""
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
