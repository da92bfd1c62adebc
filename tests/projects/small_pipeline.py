"""The whole way, small, under a real ``mlflow run``: several tests look at the store that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("efficiency", "pretrain_cbf", "safety", "evaluate")
SMALL = {
    "curriculum": str(ROOT / "tests" / "projects" / "small.yaml"),
    "efficiency_steps": "3",
    "pretrain_steps": "3",
    "batch": "3",
    "horizon": "30",
    "report_flights": "6",
    "rollouts": "6",
    "scenes": "random_cloud",
    "scenarios": "random_cloud",
    "seed": "5",
    "policy.features": "16",
    "barrier.features": "8",
    "physics.lag_time": "1e-1",
}


@dataclass(frozen=True)
class SmallPipeline:
    """A finished pipeline."""

    folder: Path
    """Where its store lies: ``mlflow.db`` and ``mlruns/``."""
    output: str


def mlflow_run(
    folder: Path, entry: str, parameters: Mapping[str, str], settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A plain ``mlflow run`` of this project in ``folder``, where its store lies unless ``settings`` name one."""
    command, environment = command_line(entry, parameters), environment_of_runs(settings or {})
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, preexec_fn=_on_one_core
    )


def _on_one_core() -> None:
    """A stage then uses one device: dividing its few flights among several takes a fifth more compiling."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def command_line(entry: str, parameters: Mapping[str, str]) -> list[str]:
    """``mlflow run . -e entry -P ...``"""
    given = [word for name, text in parameters.items() for word in ("-P", f"{name}={text}")]
    return [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", entry, "--env-manager", "local", *given]


def environment_of_runs(settings: Mapping[str, str]) -> dict[str, str]:
    """This one's without its store, and ``settings``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Few flights, much compiling: without optimising the code all of it is faster.
    return {**kept, "PATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "true", **settings}


def stored_runs(store: Path | str) -> dict[str, Run]:
    """The runs of a folder's store, or of the store at an address, by stage."""
    uri = store if isinstance(store, str) else f"sqlite:///{store}/mlflow.db"
    runs = MlflowClient(uri).search_runs(["0"])
    return {run.data.tags.get("drone_cbf.stage", "none"): run for run in runs}
