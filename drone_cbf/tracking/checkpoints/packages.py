"""Folders of arrays: Orbax files with a manifest (SHA-256 and size of every file) that is verified before any is read.

A package is such a folder with a controller's checkpoint and its ``config.yaml``. JAX and Orbax are imported where they
are used: programs that only start stages or read the store need neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drone_cbf.documents import UnreadableError, parse_json, parse_yaml
from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.tags import CONFIG_FILE

MANIFEST = "manifest.json"
_FORMAT = 1
_CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Package:
    """Content of a package: nested dictionaries of arrays, and plain settings."""

    tree: dict[str, Any]
    config: dict[str, Any]


def write_package(folder: Path, tree: Any, config: Mapping[str, Any], **further: Any) -> None:
    """Writes ``tree`` (any pytree of arrays) and ``config`` (plain values) into the new ``folder``.

    ``further`` entries are added to the manifest.
    """
    folder.mkdir(parents=True)
    write_tree(folder / _CHECKPOINT, to_leaves(tree))
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    write_manifest(folder / MANIFEST, folder, **further)


def read_package(folder: Path) -> Package:
    """The verified content of ``folder``; CheckpointError if a file is missing or altered, or the format is unknown."""
    remedy = "register the policy again"
    verify(folder, lambda name: f"{name} in {folder}", remedy)
    try:
        config = parse_yaml((folder / CONFIG_FILE).read_bytes())
    except (OSError, UnreadableError) as error:
        raise CheckpointError(f"{CONFIG_FILE} in {folder} cannot be used ({error}); {remedy}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{CONFIG_FILE} in {folder} holds no settings; {remedy}")
    return Package(tree=read_tree(folder / _CHECKPOINT), config=config)


def write_manifest(file: Path, folder: Path, **further: Any) -> None:
    """Writes the manifest of ``folder`` to ``file``, with ``further`` entries."""
    file.write_text(json.dumps({"format": _FORMAT, **further, "files": _digests(folder)}, indent=1))


def verify(folder: Path, describe: Callable[[str], str], remedy: str) -> None:
    """Compares every file below ``folder`` with the manifest in it.

    ``describe`` maps the relative path of a file to how messages name it; ``remedy`` ends each message. Raises
    CheckpointError if the manifest cannot be read, or a file is missing, extra or altered.
    """
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
        expected, version = dict(manifest["files"]), manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{describe(MANIFEST)} is missing or altered; {remedy}") from error
    if version != _FORMAT:
        readable = f"has format {version}, this version reads {_FORMAT}"
        raise CheckpointError(f"{describe(MANIFEST)} {readable}; update it, or {remedy}")
    found = {name: digest for name, digest in _digests(folder).items() if name != MANIFEST}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        count = f"{len(wrong)} of {len(expected)} files differ from {MANIFEST}"
        raise CheckpointError(f"{describe(wrong[0])} is missing or altered ({count}); {remedy}")


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file below ``folder``, by relative path."""
    files = sorted(folder.rglob("*"))
    if links := [file for file in files if file.is_symlink()]:
        raise CheckpointError(f"{links[0]} is a link, and what it leads to may change; put the file in its place")
    contents = {file: file.read_bytes() for file in files if file.is_file()}
    return {
        file.relative_to(folder).as_posix(): {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for file, content in contents.items()
    }


def write_tree(folder: Path, leaves: dict[tuple[str, ...], np.ndarray]) -> None:
    """Writes leaves by path (:func:`to_leaves`) as Orbax files into the new ``folder``."""
    import orbax.checkpoint as ocp
    from flax.traverse_util import unflatten_dict

    with _checkpointer() as checkpointer:
        checkpointer.save(folder.resolve(), args=ocp.args.PyTreeSave(unflatten_dict(leaves)))


def _checkpointer() -> Any:
    """Orbax for this process alone: of a training in several processes one has the whole tree, and the others would not
    come to the barrier at which Orbax waits for all."""
    import jax
    import orbax.checkpoint as ocp

    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        own = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
        )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def read_tree(folder: Path) -> dict[str, Any]:
    """Reads what :func:`write_tree` wrote: nested dictionaries of numpy arrays; CheckpointError if it is none."""
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore(folder.resolve())
    except Exception as error:  # whatever altered files bring forth in Orbax and below it
        reason = f"{type(error).__name__}: {error!s:.200}"
        raise CheckpointError(f"the arrays in {folder.name} cannot be read ({reason}); repeat that run") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"the arrays in {folder.name} have no names; repeat that run")
    return tree


def to_leaves(tree: Any) -> dict[tuple[str, ...], np.ndarray]:
    """Copies of the leaves on the host, by path: later donation or update of ``tree`` does not change them."""
    from jax.random import key_data

    return {path: np.array(key_data(leaf) if is_key(leaf) else leaf) for path, leaf in by_path(tree).items()}


def is_key(leaf: Any) -> bool:
    """Whether the leaf is an array of typed random keys."""
    from jax.dtypes import issubdtype, prng_key

    return hasattr(leaf, "dtype") and issubdtype(leaf.dtype, prng_key)


def by_path(tree: Any) -> dict[tuple[str, ...], Any]:
    """The leaves of a pytree by path: names of fields, keys or indices."""
    from jax.tree_util import keystr, tree_leaves_with_path

    leaves = tree_leaves_with_path(tree)
    return {tuple(keystr((entry,), simple=True) for entry in path): leaf for path, leaf in leaves}
