"""A policy trained as a point mass is evaluated, and its flights replayed, in another model; one is trained in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.projects.trained import safety_run

ROOT = Path(__file__).resolve().parents[2]
CELL = ("--scenarios=random_cloud", "--noise=0.02", "--goals=random", "--rollouts=4", "--horizon=20")


def stage(experiment: str, entry: str, *flags: str) -> Run:
    """The run that an entry point leaves."""
    given = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PYTHONPATH": str(ROOT)}
    settings = {**os.environ, **given, "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    subprocess.run([sys.executable, "-m", f"projects.{entry}", *flags], env=settings, check=True, timeout=900)
    return MlflowClient().search_runs([experiment], order_by=["start_time DESC"], max_results=1)[0]


@pytest.mark.slow
def test_a_policy_is_judged_in_another_model_than_it_was_trained_in(experiment: str) -> None:
    parent = safety_run(experiment)
    as_point = stage(experiment, "evaluate", f"--parent_run={parent}", *CELL)
    transferred = stage(experiment, "evaluate", f"--parent_run={parent}", "--physics.model=quadrotor", *CELL)
    assert (as_point.data.params["physics.model"], transferred.data.params["physics.model"]) == (
        "point_mass",
        "quadrotor",
    )
    assert (
        "effective.error" not in as_point.data.params and 0.0 < float(transferred.data.params["effective.error"]) < 1.0
    )
    assert "double integrator" in transferred.data.tags["mlflow.note.content"]
    efforts = [run.data.metrics["eval/final_distance_mean"] for run in (as_point, transferred)]
    assert np.isfinite(efforts).all() and efforts[0] != efforts[1]
    again = ("--physics.model=quadrotor", f"--replay={transferred.info.run_id}")
    replayed = stage(experiment, "evaluate", f"--parent_run={parent}", *again, *CELL)
    assert replayed.data.metrics["replay/same_bits"] == replayed.data.metrics["replay/states"] > 0


@pytest.mark.slow
def test_a_policy_learns_as_a_quadrotor(experiment: str) -> None:
    small = ("--policy.features=16", "--scenes=random_cloud", "--steps=2", "--batch=2", "--horizon=20")
    run = stage(experiment, "efficiency", "--physics.model=quadrotor", *small)
    assert run.info.status == "FINISHED" and run.data.params["physics.model"] == "quadrotor"
