"""Runs as the stages leave them, made in a moment: random networks, figures as wanted."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.cli.stage_parameters import EvaluateParameters
from tests.perception.worlds import random_barrier, random_policy, small_system

SYSTEM = small_system()
MARGIN = 0.043
GOOD = {
    "eval/success_rate": 0.9961,
    "eval/collisions": 0.0,
    "eval/collision_rate_total_ub99": 1.67e-4,
    "eval/max_violation": 0.63,
    "eval/relax_rate": 1.5e-5,
    "eval/final_distance_mean": 0.038,
    "eval_unfiltered/collisions": 38.0,
    "eval/forest/noise_0.05/random/success_rate": 0.998,
}
"""As the recorded default run."""


def controller(seed: int = 0, blend: float = 1.0, system: SystemConfig = SYSTEM) -> ControllerParams:
    policy, barrier = random_policy(system, seed), random_barrier(system, seed)
    return ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(MARGIN), blend=jnp.float32(blend))


def safety_run(experiment: str, seed: int = 0, curriculum: str = "default", system: SystemConfig = SYSTEM) -> str:
    """A finished safety run with both networks."""
    tags = {"provides": "policy,barrier", "curriculum": curriculum}
    run = _start(experiment, "safety", tags)
    run.log_config({"stage": "safety", "parameters": {"seed": seed}, "system": system.model_dump(mode="json")})
    trained = controller(seed, system=system)
    save_checkpoint(
        run.run_id, "final", {"policy": trained.policy, "barrier": trained.barrier, "margin": trained.margin}
    )
    return _finish(run)


def evaluate_run(
    experiment: str,
    training: str,
    figures: dict[str, float] | None = None,
    status: str = "FINISHED",
    system: SystemConfig = SYSTEM,
    **parameters: Any,
) -> str:
    """An evaluation of ``training`` with these figures in place of the good ones; NaN stays, None leaves one out."""
    run = _start(experiment, "evaluate", {"parent_run": training})
    settings = EvaluateParameters(parent_run=training, **parameters).model_dump(mode="json")
    run.log_config({"stage": "evaluate", "parameters": settings, "system": system.model_dump(mode="json")})
    values = {name: value for name, value in {**GOOD, **(figures or {})}.items() if value is not None}
    run.log_metrics(values)
    return _finish(run, status)


def evaluated(experiment: str, figures: dict[str, float] | None = None, **parameters: Any) -> tuple[str, str]:
    """A safety run and its evaluation."""
    training = safety_run(experiment, parameters.pop("training_seed", 0))
    return training, evaluate_run(experiment, training, figures, **parameters)


def _start(experiment: str, stage: str, tags: dict[str, str]) -> StageRun:
    given = {f"drone_cbf.{name}": text for name, text in {"stage": stage, **tags}.items()}
    run_id = MlflowClient().create_run(experiment, tags=given).info.run_id
    return StageRun(run_id, experiment, stage)


def _finish(run: StageRun, status: str = "FINISHED") -> str:
    if status != "RUNNING":
        MlflowClient().set_terminated(run.run_id, status)
    return run.run_id
