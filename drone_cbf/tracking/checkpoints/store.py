"""Checkpoints as run artifacts: Orbax files below ``checkpoints/<name>/`` and, uploaded last, their manifest.

A checkpoint without its manifest is incomplete; a file that differs from it is refused. The stored tree is nested
dictionaries of arrays (names of fields, keys, or indices), readable by Orbax alone. JAX and Orbax are imported where
they are used: programs that only start stages or read the store need neither.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints.manifests import MANIFEST, verify, write_manifest

FINAL = "final"
"""Name of the checkpoint that later stages load."""
_OTHER_CONFIG = "it was saved with another configuration: use that one, or repeat the run"
Tree = TypeVar("Tree")


def save_checkpoint(run_id: str, name: str, tree: Any) -> None:
    """Uploads ``tree`` (any pytree of arrays and numbers) to ``checkpoints/<name>/`` of the run.

    The remains of an interrupted upload are removed first.
    """

    leaves = to_leaves(tree)
    delete_checkpoint(run_id, name)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        files, manifest = Path(folder) / name, Path(folder) / MANIFEST
        write_tree(files, leaves)
        write_manifest(manifest, files, leaves=_describe(leaves))
        mlflow.log_artifacts(str(files), f"checkpoints/{name}", run_id=run_id)
        mlflow.log_artifact(str(manifest), f"checkpoints/{name}", run_id=run_id)


def load_checkpoint(run_id: str, name: str) -> dict[str, Any]:
    """The verified content of checkpoint ``name`` of the run: nested dictionaries of numpy arrays.

    Raises:
        CheckpointError: absent, incomplete or altered.
    """
    path = f"checkpoints/{name}"
    _check_presence(run_id, path)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        try:
            files = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise CheckpointError(f"{path} of run {run_id} could not be downloaded ({error}); try again") from error
        verify(files, lambda file: f"{path}/{file} of run {run_id}", "repeat that run, or name another one")
        (files / MANIFEST).unlink()
        return read_tree(files)


def write_tree(folder: Path, leaves: dict[tuple[str, ...], np.ndarray]) -> None:
    """Writes leaves by path (:func:`to_leaves`) as Orbax files into the new ``folder``."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder.resolve(), args=ocp.args.PyTreeSave(unflatten(leaves)))


def read_tree(folder: Path) -> dict[str, Any]:
    """Reads what :func:`write_tree` wrote: nested dictionaries of numpy arrays."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder.resolve())


def is_complete(run_id: str, name: str) -> bool:
    """Whether the checkpoint has its manifest, which is uploaded last."""
    return MANIFEST in _file_names(run_id, f"checkpoints/{name}")


def delete_checkpoint(run_id: str, name: str) -> None:
    """Removes the checkpoint, its manifest first: an interrupted removal leaves an incomplete checkpoint."""
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
    return jax.random.wrap_key_data(jax.numpy.asarray(value)) if _is_key(target) else value


def to_leaves(tree: Any) -> dict[tuple[str, ...], np.ndarray]:
    """Copies of the leaves on the host, by path: later donation or update of ``tree`` does not change them."""
    import jax

    return {
        _names(path): np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_presence(run_id: str, path: str) -> None:
    try:
        present = _file_names(run_id, path)
    except MlflowException as error:
        raise CheckpointError(f"the artifacts of run {run_id} cannot be listed ({error}); check the run ID") from error
    if MANIFEST not in present:
        state = f"is incomplete ({MANIFEST} is missing)" if present else "does not exist"
        raise CheckpointError(f"{path} of run {run_id} {state}; repeat that run, or name another one")


def _file_names(run_id: str, path: str) -> set[str]:
    return {Path(file.path).name for file in MlflowClient().list_artifacts(run_id, path)}


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
