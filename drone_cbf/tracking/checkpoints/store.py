"""Checkpoints as run artifacts: Orbax files below ``checkpoints/<name>/`` and, uploaded last, their manifest.

A checkpoint without its manifest is incomplete; a file that differs from it is refused. The stored tree is nested
dictionaries of arrays (names of fields, keys, or indices), readable by Orbax alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints import packages
from drone_cbf.tracking.checkpoints.packages import MANIFEST, by_path, is_key, to_leaves
from drone_cbf.tracking.folders import missing_folder

FINAL = "final"  # Name of the checkpoint that later stages load
_OTHER_CONFIG = "it was saved with another configuration: use that one, or repeat the run"
_REPEAT = "repeat that run, or name another one"
Tree = TypeVar("Tree")


def save_checkpoint(run_id: str, name: str, tree: Any) -> None:
    """Uploads ``tree`` (any pytree of arrays and numbers) to ``checkpoints/<name>/`` of the run.

    The remains of an interrupted upload are removed first.
    """
    leaves = to_leaves(tree)
    delete_checkpoint(run_id, name)
    described = {"/".join(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves.items()}
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        files, manifest = Path(folder) / name, Path(folder) / MANIFEST
        packages.write_tree(files, leaves)
        packages.write_manifest(manifest, files, leaves=described)
        mlflow.log_artifacts(str(files), f"checkpoints/{name}", run_id=run_id)
        mlflow.log_artifact(str(manifest), f"checkpoints/{name}", run_id=run_id)


def load_checkpoint(run_id: str, name: str) -> dict[str, Any]:
    """Nested dictionaries of numpy arrays; CheckpointError if the checkpoint is absent, incomplete or altered."""
    path = f"checkpoints/{name}"
    try:
        present = _file_names(run_id, path)
    except MlflowException as error:
        raise CheckpointError(f"the artifacts of run {run_id} cannot be listed ({error}); check the run ID") from error
    if MANIFEST not in present:
        if missing := missing_folder(MlflowClient().get_run(run_id)):
            raise CheckpointError(f"{path} of run {run_id} cannot be read: {missing}")
        state = f"is incomplete ({MANIFEST} is missing)" if present else "does not exist"
        raise CheckpointError(f"{path} of run {run_id} {state}; {_REPEAT}")
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        try:
            files = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise CheckpointError(f"{path} of run {run_id} could not be downloaded ({error}); try again") from error
        packages.verify(files, lambda file: f"{path}/{file} of run {run_id}", _REPEAT)
        (files / MANIFEST).unlink()
        return packages.read_tree(files)


def is_complete(run_id: str, name: str) -> bool:
    """Whether the checkpoint has its manifest, which is uploaded last."""
    return MANIFEST in _file_names(run_id, f"checkpoints/{name}")


def delete_checkpoint(run_id: str, name: str) -> None:
    """Removes the checkpoint, its manifest first: an interrupted removal leaves an incomplete checkpoint.

    What is gone already, because another process removed it or the store keeps no empty folders, counts as removed.
    """
    repository = get_artifact_repository(MlflowClient().get_run(run_id).info.artifact_uri)
    path = f"checkpoints/{name}"
    files = [file.path for file in repository.list_artifacts(path)]
    for file in sorted(files, key=lambda file: not file.endswith(MANIFEST)):
        _delete(repository, file)
    if files:
        _delete(repository, path)


def _delete(repository: ArtifactRepository, path: str) -> None:
    """Deletes a file or a folder; an error counts only where it is there afterwards."""
    try:
        repository.delete_artifacts(path)
    except Exception:
        folder = path.rpartition("/")[0]
        if path in {file.path for file in repository.list_artifacts(folder)}:
            raise


def match(target: Tree, loaded: dict[str, Any], what: str) -> Tree:
    """``loaded`` in the structure of ``target``, a pytree of arrays or ``jax.ShapeDtypeStruct``.

    Raises CheckpointError if a leaf is missing, extra, or of another shape or dtype; ``what`` names the checkpoint.
    """
    import jax

    expected, saved = by_path(target), by_path(loaded)
    for path in [*(expected.keys() - saved.keys()), *(saved.keys() - expected.keys())]:
        state = "lacks the" if path in expected else "has an unexpected"
        raise CheckpointError(f"{what} {state} leaf {'/'.join(path)}; {_OTHER_CONFIG}")
    leaves = [_checked(leaf, saved[path], f"leaf {'/'.join(path)} of {what}") for path, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(target), leaves)


def _checked(target: Any, value: np.ndarray, what: str) -> Any:
    import jax

    data = jax.eval_shape(jax.random.key_data, target) if is_key(target) else target
    shape, dtype = np.shape(data), getattr(data, "dtype", np.asarray(data).dtype)
    if value.shape != shape or value.dtype != dtype:
        found = f"{value.dtype}{list(value.shape)}"
        raise CheckpointError(f"{what} is {found}, expected {dtype}{list(shape)}; {_OTHER_CONFIG}")
    return jax.random.wrap_key_data(jax.numpy.asarray(value)) if is_key(target) else value


def _file_names(run_id: str, path: str) -> set[str]:
    return {Path(file.path).name for file in MlflowClient().list_artifacts(run_id, path)}
