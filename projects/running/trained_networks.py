"""The trained networks that a stage loads from its parent or the parent's ancestry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.errors import CheckpointError, LineageError
from drone_cbf.policy.policies import PolicyParams, initial_policy_params
from drone_cbf.tracking.checkpoints.certificates import check_parameters, checked_margin
from drone_cbf.tracking.checkpoints.store import FINAL, load_checkpoint, match
from drone_cbf.tracking.runs.lineage import find, resolve_parent
from projects.running.distributed import tree_from_first
from projects.running.stage_runner import Stage

INITIAL: dict[str, Callable[..., Any]] = {"policy": initial_policy_params, "barrier": initial_barrier_params}
"""Part of a checkpoint -> its parameters before training, which have the shape that the system describes."""


def load_policy(stage: Stage) -> PolicyParams:
    """The policy nearest in the ancestry."""
    like = _shape("policy", stage.system)
    found = tree_from_first(lambda: _load(_holder(stage, "policy"), "policy", stage.system)[0], like)
    return jax.tree.map(jnp.asarray, found)


def load_barrier(stage: Stage) -> tuple[BarrierParams, float]:
    """The neural barrier nearest in the ancestry, and the margin [m] that the filter subtracts from it."""

    def read() -> tuple[BarrierParams, float]:
        params, checkpoint = _load(_holder(stage, "barrier"), "barrier", stage.system)
        if "margin" not in checkpoint:
            raise CheckpointError(
                "the barrier's checkpoint holds no calibration margin; repeat the run that trained it"
            )
        return params, checked_margin(checkpoint["margin"], "the barrier's checkpoint")

    params, margin = tree_from_first(read, (_shape("barrier", stage.system), np.float64(0.0)))
    return jax.tree.map(jnp.asarray, params), float(margin)


def load_initial_barrier(stage: Stage, run_id: str) -> BarrierParams:
    """The neural barrier of the finished pretrain_cbf or safety run ``run_id``.

    Raises:
        LineageError: there is no such run, it is unfinished or failed, or it is of another stage.
        CheckpointError: its barrier has another shape than the system describes.
    """

    def read() -> BarrierParams:
        started_from = resolve_parent(run_id, ("pretrain_cbf", "safety"), called="init_run")
        return _load(started_from.run_id, "barrier", stage.system)[0]

    return jax.tree.map(jnp.asarray, tree_from_first(read, _shape("barrier", stage.system)))


def _holder(stage: Stage, part: str) -> str:
    if stage.parent is None:
        raise LineageError(f"parent_run is missing, which holds the {part}; give it with -P parent_run=<run id>")
    return find(stage.parent.run_id, part)


def _load(run_id: str, part: str, system: SystemConfig) -> tuple[Any, dict[str, Any]]:
    checkpoint = load_checkpoint(run_id, FINAL)
    holder = checkpoint if part in checkpoint else checkpoint.get("state")  # with what a resume needs beside it
    if not isinstance(holder, Mapping) or not isinstance(holder.get(part), Mapping):
        raise CheckpointError(f"checkpoint '{FINAL}' of run {run_id} holds no {part}; repeat that run")
    what = f"{part} in checkpoint '{FINAL}' of run {run_id}"
    loaded = match(_shape(part, system), holder[part], what)
    check_parameters(loaded, what)
    return jax.tree.map(jnp.asarray, loaded), checkpoint


def _shape(part: str, system: SystemConfig) -> Any:
    """Structure and shapes of the parameters."""
    return jax.eval_shape(lambda key: INITIAL[part](system, key), jax.random.key(0))
