"""Checkpoints as run artifacts: Orbax files below ``checkpoints/<name>/``; last, a manifest of their SHA-256.

A checkpoint without its manifest is incomplete, whatever else is there; a file that differs from it is refused. The
stored tree is nested dictionaries of arrays (names of fields, keys, or indices), readable by Orbax alone.

JAX and Orbax are imported where they are used: entry points that only start stages or read the store need neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from drone_cbf.errors import CheckpointError

MANIFEST = "manifest.json"
FINAL = "final"
"""Name of the checkpoint that a finished stage leaves to later ones."""
_OTHER_CONFIG = "the configuration differs from the one it was saved with: use that one, or repeat the run"
Tree = TypeVar("Tree")


def save_checkpoint(run_id: str, name: str, tree: Any) -> None:
    """Uploads ``tree`` (any pytree of arrays and numbers) to ``checkpoints/<name>/`` of the run.

    What an interrupted upload may have left there is removed first.
    """
    import orbax.checkpoint as ocp

    leaves = to_leaves(tree)
    delete_checkpoint(run_id, name)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        files = Path(folder) / name
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(files.resolve(), args=ocp.args.PyTreeSave(unflatten(leaves)))
        mlflow.log_artifacts(str(files), f"checkpoints/{name}", run_id=run_id)
        manifest = Path(folder) / MANIFEST
        manifest.write_text(json.dumps({"format": 1, "leaves": _describe(leaves), "files": digests(files)}, indent=1))
        mlflow.log_artifact(str(manifest), f"checkpoints/{name}", run_id=run_id)


def load_checkpoint(run_id: str, name: str) -> dict[str, Any]:
    """What was saved as ``name`` on the run, verified: nested dictionaries of numpy arrays.

    Raises:
        CheckpointError: absent, incomplete or altered.
    """
    import orbax.checkpoint as ocp

    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        files = download_checkpoint(run_id, name, Path(folder) / "checkpoint")
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(files.resolve())


def download_checkpoint(run_id: str, name: str, destination: Path) -> Path:
    """Downloads and verifies a checkpoint's files. ``destination`` appears only when all of them are right."""
    path = f"checkpoints/{name}"
    manifest = _read_manifest(run_id, name)
    partial = destination.with_name(destination.name + ".partial")
    partial.mkdir(parents=True)
    try:
        files = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(partial)))
    except (MlflowException, OSError) as error:
        raise CheckpointError(f"{path} of run {run_id} could not be downloaded ({error}); try again") from error
    (files / MANIFEST).unlink()
    found, expected = digests(files), manifest["files"]
    wrong = sorted(file for file in found.keys() | expected.keys() if found.get(file) != expected.get(file))
    if wrong:
        raise CheckpointError(
            f"{path}/{wrong[0]} of run {run_id} is missing or altered ({len(wrong)} of {len(expected)} files "
            f"differ from {MANIFEST}); restore the file or repeat the run"
        )
    os.rename(files, destination)
    return destination


def is_complete(run_id: str, name: str) -> bool:
    """Whether the checkpoint has its manifest, which is uploaded last."""
    files = MlflowClient().list_artifacts(run_id, f"checkpoints/{name}")
    return any(file.path.endswith(f"/{MANIFEST}") for file in files)


def delete_checkpoint(run_id: str, name: str) -> None:
    """Removes the checkpoint, the manifest first: what is left of an interrupted removal is incomplete."""
    repository = get_artifact_repository(MlflowClient().get_run(run_id).info.artifact_uri)
    path = f"checkpoints/{name}"
    files = [file.path for file in repository.list_artifacts(path)]
    for file in sorted(files, key=lambda file: not file.endswith(MANIFEST)):
        repository.delete_artifacts(file)
    if files:
        repository.delete_artifacts(path)


def match(target: Tree, loaded: dict[str, Any], what: str) -> Tree:
    """``loaded`` in the structure of ``target``, a pytree of arrays or ``jax.ShapeDtypeStruct``.

    Raises:
        CheckpointError: a leaf is missing, extra, or of another shape or dtype; ``what`` names the checkpoint.
    """
    import jax

    wanted, structure = jax.tree_util.tree_flatten_with_path(target)
    expected = {_names(path): leaf for path, leaf in wanted}
    saved = {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(loaded)}
    for names in [*(expected.keys() - saved.keys()), *(saved.keys() - expected.keys())]:
        state = "lacks the" if names in expected else "has an unexpected"
        raise CheckpointError(f"{what} {state} leaf {'/'.join(names)}; {_OTHER_CONFIG}")
    leaves = [_checked(leaf, saved[names], f"leaf {'/'.join(names)} of {what}") for names, leaf in expected.items()]
    return jax.tree_util.tree_unflatten(structure, leaves)


def _checked(target: Any, value: np.ndarray, what: str) -> Any:
    import jax

    data = jax.eval_shape(jax.random.key_data, target) if _is_key(target) else target
    shape, dtype = np.shape(data), getattr(data, "dtype", np.asarray(data).dtype)
    if value.shape != shape or value.dtype != dtype:
        found = f"{value.dtype}{list(value.shape)}"
        raise CheckpointError(f"{what} is {found}, expected {dtype}{list(shape)}; {_OTHER_CONFIG}")
    return jax.random.wrap_key_data(value) if _is_key(target) else value


def to_leaves(tree: Any) -> dict[tuple[str, ...], np.ndarray]:
    """The leaves on the host, copied, by path: later donation or update of ``tree`` cannot change them."""
    import jax

    return {
        _names(path): np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _read_manifest(run_id: str, name: str) -> dict[str, Any]:
    path = f"checkpoints/{name}"
    try:
        present = {Path(file.path).name for file in MlflowClient().list_artifacts(run_id, path)}
    except MlflowException as error:
        raise CheckpointError(f"the artifacts of run {run_id} cannot be listed ({error}); check the run ID") from error
    if MANIFEST not in present:
        state = f"is incomplete ({MANIFEST} is missing)" if present else "does not exist"
        raise CheckpointError(f"{path} of run {run_id} {state}; repeat that run, or name another one")
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/{path}/{MANIFEST}")
    try:
        manifest = json.loads(text)
        if manifest["format"] == 1 and isinstance(manifest["files"], dict):
            return manifest
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}/{MANIFEST} of run {run_id} is altered; repeat that run") from error
    raise CheckpointError(f"{path} of run {run_id} has format {manifest['format']}, this version reads 1; update it")


def _is_key(leaf: Any) -> bool:
    import jax

    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    import jax

    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def unflatten(leaves: dict[tuple[str, ...], np.ndarray]) -> dict[str, Any]:
    """Nested dictionaries from leaves by path."""
    nested: dict[str, Any] = {}
    for names, leaf in leaves.items():
        group = nested
        for name in names[:-1]:
            group = group.setdefault(name, {})
        group[names[-1]] = leaf
    return nested


def _describe(leaves: dict[tuple[str, ...], np.ndarray]) -> dict[str, str]:
    return {"/".join(names): f"{leaf.dtype}{list(leaf.shape)}" for names, leaf in leaves.items()}


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file below ``folder``, by relative path."""
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
