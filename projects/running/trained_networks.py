"""The trained networks that a stage loads from its parent or the parent's ancestry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.errors import CheckpointError, LineageError
from drone_cbf.policy.goal_conditioned import PolicyParams, initial_policy_params
from drone_cbf.tracking.checkpoints.store import FINAL, load_checkpoint, match
from drone_cbf.tracking.runs.lineage import find, provides, resolve_parent
from projects.running.stage_runner import Stage


@dataclass(frozen=True)
class CalibratedBarrier:
    """A neural barrier with the margin [m] that the filter subtracts from it."""

    params: BarrierParams
    margin: float


def load_policy(stage: Stage) -> PolicyParams:
    """The policy nearest in the ancestry, of the shape that the system describes."""
    return _load(stage, "policy", initial_policy_params)[0]


def load_barrier(stage: Stage) -> CalibratedBarrier:
    """The neural barrier nearest in the ancestry, of the shape that the system describes."""
    params, checkpoint = _load(stage, "barrier", initial_barrier_params)
    if "margin" not in checkpoint:
        raise CheckpointError("the barrier's checkpoint holds no calibration margin; repeat the run that trained it")
    return CalibratedBarrier(params, float(checkpoint["margin"]))


def load_initial_barrier(stage: Stage, run_id: str) -> BarrierParams:
    """The neural barrier of the finished pretrain_cbf or safety run ``run_id``, of the shape that the system describes.

    Raises:
        LineageError: there is no such run, it is unfinished or failed, or it is of another stage.
        CheckpointError: its barrier has another shape.
    """
    started_from = resolve_parent(run_id, ("pretrain_cbf", "safety"), called="init_run")
    return _load_from(started_from.run_id, "barrier", initial_barrier_params, stage.system)[0]


def has_barrier(stage: Stage) -> bool:
    """Whether the ancestry holds a neural barrier."""
    return stage.parent is not None and provides(stage.parent.run_id, "barrier")


def _load(stage: Stage, part: str, initialise: Callable[[SystemConfig, jax.Array], Any]) -> tuple[Any, dict[str, Any]]:
    if stage.parent is None:
        raise LineageError(f"parent_run is missing, which holds the {part}; give it with -P parent_run=<run id>")
    return _load_from(find(stage.parent.run_id, part), part, initialise, stage.system)


def _load_from(
    run_id: str, part: str, initialise: Callable[[SystemConfig, jax.Array], Any], system: SystemConfig
) -> tuple[Any, dict[str, Any]]:
    checkpoint = load_checkpoint(run_id, FINAL)
    holder = checkpoint if part in checkpoint else checkpoint.get("state", {})  # with what a resume needs beside it
    if part not in holder:
        raise CheckpointError(f"checkpoint '{FINAL}' of run {run_id} holds no {part}; repeat that run")
    target = jax.eval_shape(lambda key: initialise(system, key), jax.random.key(0))
    loaded = match(target, holder[part], f"{part} in checkpoint '{FINAL}' of run {run_id}")
    return jax.tree.map(jnp.asarray, loaded), checkpoint
