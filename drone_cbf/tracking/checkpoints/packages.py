"""A controller as a self-contained folder: Orbax checkpoint, ``config.yaml``, and a manifest of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drone_cbf.tracking.checkpoints.manifests import MANIFEST, verify, write_manifest
from drone_cbf.tracking.checkpoints.store import read_tree, to_leaves, write_tree
from drone_cbf.tracking.tags import CONFIG_FILE

_CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Package:
    """Content of a package."""

    tree: dict[str, Any]
    """Nested dictionaries of arrays."""
    config: dict[str, Any]


def write_package(folder: Path, tree: Any, config: Mapping[str, Any]) -> None:
    """Writes ``tree`` (any pytree of arrays) and ``config`` (plain values) into the new ``folder``."""
    folder.mkdir(parents=True)
    write_tree(folder / _CHECKPOINT, to_leaves(tree))
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False))
    write_manifest(folder / MANIFEST, folder)


def read_package(folder: Path) -> Package:
    """The content of ``folder``, verified.

    Raises:
        CheckpointError: a file is missing or altered, or the format is unknown.
    """
    verify(folder, lambda name: f"{name} in {folder}", "register the policy again")
    return Package(tree=read_tree(folder / _CHECKPOINT), config=yaml.safe_load((folder / CONFIG_FILE).read_text()))
