"""A controller as a folder that stands alone: Orbax checkpoint, ``config.yaml``, and a manifest to check both by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import yaml

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints.store import MANIFEST, digests, to_leaves, unflatten
from drone_cbf.tracking.tags import CONFIG_FILE

_CHECKPOINT = "checkpoint"
_FORMAT = 1


@dataclass(frozen=True)
class Package:
    """What a package holds."""

    tree: dict[str, Any]
    """Nested dictionaries of arrays."""
    config: dict[str, Any]


def write_package(folder: Path, tree: Any, config: Mapping[str, Any]) -> None:
    """Writes ``tree`` (any pytree of arrays) and ``config`` (plain values) into the new ``folder``."""
    folder.mkdir(parents=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save((folder / _CHECKPOINT).resolve(), args=ocp.args.PyTreeSave(unflatten(to_leaves(tree))))
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False))
    (folder / MANIFEST).write_text(json.dumps({"format": _FORMAT, "files": digests(folder)}, indent=1))


def read_package(folder: Path) -> Package:
    """What ``folder`` holds, after every file was compared with the manifest.

    Raises:
        CheckpointError: a file is missing or altered, or the format is another one.
    """
    remedy = "register the policy again"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected, version = manifest["files"], manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} has no readable {MANIFEST}; {remedy}") from error
    if version != _FORMAT:
        raise CheckpointError(f"{folder} has format {version}, this version reads {_FORMAT}; update it, or {remedy}")
    found = {name: digest for name, digest in digests(folder).items() if name != MANIFEST}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise CheckpointError(f"{wrong[0]} in {folder} is missing or altered ({len(wrong)} files differ); {remedy}")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.restore((folder / _CHECKPOINT).resolve())
    return Package(tree=tree, config=yaml.safe_load((folder / CONFIG_FILE).read_text()))
