from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from mlflow.tracking import MlflowClient

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints.packages import MANIFEST, to_leaves
from drone_cbf.tracking.checkpoints.store import load_checkpoint, match, save_checkpoint
from drone_cbf.tracking.runs.stage_run import StageRun


@struct.dataclass
class State:
    policy: Any
    optimiser: Any
    step: jax.Array
    key: jax.Array


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


def new_state(width: int = 3) -> State:
    policy = {"params": {"dense": {"kernel": jnp.arange(2.0 * width).reshape(2, width), "bias": jnp.zeros(width)}}}
    return State(policy, optax.adamw(1e-3).init(policy), jnp.int32(7), jax.random.key(3))


def folder_of(run: StageRun, name: str) -> Path:
    uri = MlflowClient().get_run(run.run_id).info.artifact_uri
    return Path(unquote(urlparse(uri).path)) / "checkpoints" / name


def test_a_loaded_state_equals_the_saved_one_leaf_by_leaf_in_value_dtype_and_structure(run: StageRun) -> None:
    state = new_state()
    save_checkpoint(
        run.run_id, "final", {"state": state, "pair": Pair(jnp.ones(2), jnp.zeros((), bool)), "margin": 0.25}
    )
    loaded = load_checkpoint(run.run_id, "final")
    restored = match(jax.eval_shape(new_state), loaded["state"], "state")
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for saved, back in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        if jnp.issubdtype(saved.dtype, jax.dtypes.prng_key):
            saved, back = jax.random.key_data(saved), jax.random.key_data(back)
        assert saved.dtype == back.dtype
        np.testing.assert_array_equal(saved, back)
    assert set(loaded["pair"]) == {"first", "second"} and float(loaded["margin"]) == 0.25


def test_a_checkpoint_is_a_few_files_of_plain_orbax_and_a_manifest(run: StageRun) -> None:
    save_checkpoint(run.run_id, "final", {"state": new_state()})
    files = [file for file in folder_of(run, "final").rglob("*") if file.is_file()]
    assert len(files) <= 16
    assert not any(file.read_bytes().startswith(b"\x80\x04") for file in files), "no pickle anywhere"
    manifest = json.loads((folder_of(run, "final") / MANIFEST).read_text())
    assert manifest["leaves"]["state/policy/params/dense/kernel"] == "float32[2, 3]"


def test_a_checkpoint_without_manifest_is_incomplete(run: StageRun) -> None:
    save_checkpoint(run.run_id, "final", {"a": jnp.ones(2)})
    (folder_of(run, "final") / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="checkpoints/final of run .* is incomplete"):
        load_checkpoint(run.run_id, "final")


def test_a_checkpoint_that_was_never_saved_does_not_exist(run: StageRun) -> None:
    with pytest.raises(CheckpointError, match="checkpoints/final of run .* does not exist"):
        load_checkpoint(run.run_id, "final")


@pytest.mark.parametrize("damage", ["altered", "missing", "added"])
def test_a_file_that_differs_from_the_manifest_is_refused_by_name(run: StageRun, damage: str) -> None:
    save_checkpoint(run.run_id, "final", {"a": jnp.ones(1000)})
    victim = folder_of(run, "final") / "_METADATA"
    content = victim.read_bytes()
    if damage == "altered":
        victim.write_bytes(content[:-1] + b"X")
    elif damage == "missing":
        victim.unlink()
    else:
        (victim.parent / "_METADATA.old").write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoints/final/_METADATA.* is missing or altered"):
        load_checkpoint(run.run_id, "final")


def test_a_manifest_that_is_no_manifest_is_refused(run: StageRun) -> None:
    save_checkpoint(run.run_id, "final", {"a": jnp.ones(2)})
    (folder_of(run, "final") / MANIFEST).write_text("{")
    with pytest.raises(CheckpointError, match="altered"):
        load_checkpoint(run.run_id, "final")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(3)},
            r"leaf kernel of policy is float32\[2, 3\], expected float32\[2, 4\]",
        ),
        (
            {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3, jnp.int32)},
            "leaf bias of policy is float32.*expected int32",
        ),
        ({"kernel": jnp.ones((2, 3))}, "unexpected leaf bias"),
        ({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}, "lacks the leaf scale"),
    ],
)
def test_a_leaf_that_does_not_fit_is_named(target: dict[str, jax.Array], message: str) -> None:
    loaded = {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}
    with pytest.raises(CheckpointError, match=message):
        match(target, loaded, "policy")


def test_leaves_are_copies_that_later_donation_cannot_touch() -> None:
    array = np.ones(3, np.float32)
    (copied,) = to_leaves({"a": array}).values()
    array[:] = 5.0
    np.testing.assert_array_equal(copied, 1.0)
