"""``init_run``: a barrier from an earlier run is the start of pretraining, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.errors import CheckpointError, LineageError
from drone_cbf.recorder import ListRecorder
from drone_cbf.tracking.runs.lineage import Parent
from drone_cbf.tracking.runs.stage_run import StageRun
from drone_cbf.training.stages.pretraining import PretrainingResult
from projects.cli.stage_parameters import PretrainParameters
from projects.inputs.digests import config_digest
from projects.running.stage_runner import Stage
from projects.running.trained_networks import load_initial_barrier
from projects.stages import pretrain_cbf
from tests.perception.worlds import random_barrier, random_policy, small_system
from tests.projects.trained import SYSTEM, evaluate_run, safety_run


def stage_of(system: SystemConfig, run_id: str = "", **parameters: Any) -> Stage:
    """A pretrain_cbf stage as its work gets it."""
    given = PretrainParameters(parent_run="efficiency-run", **parameters)
    run = StageRun(run_id, "0", "pretrain_cbf")
    parent = Parent(run_id="efficiency-run", stage="efficiency", config={})
    return Stage(run, given, system, {}, parent, ListRecorder(), ListRecorder())


def test_the_start_is_the_barrier_that_the_named_run_left(experiment: str) -> None:
    loaded = load_initial_barrier(stage_of(SYSTEM), safety_run(experiment, seed=3))
    jax.tree.map(np.testing.assert_array_equal, loaded, random_barrier(SYSTEM, 3))


def test_a_run_that_has_no_barrier_to_give_is_refused_by_name(experiment: str) -> None:
    evaluation = evaluate_run(experiment, safety_run(experiment))
    with pytest.raises(
        LineageError, match=f"init_run {evaluation} is a run of stage evaluate, expected a finished pretrain_cbf or"
    ):
        load_initial_barrier(stage_of(SYSTEM), evaluation)
    with pytest.raises(LineageError, match="init_run 'nonsense' was not found in .*; check the run ID"):
        load_initial_barrier(stage_of(SYSTEM), "nonsense")


def test_a_barrier_of_another_shape_is_refused_before_any_work(experiment: str) -> None:
    wider = small_system(barrier=SYSTEM.barrier.model_copy(update={"features": 12}))
    run_id = safety_run(experiment)
    with pytest.raises(
        CheckpointError, match=rf"leaf .* of barrier in checkpoint 'final' of run {run_id} is .*\[.*8.*\], expected"
    ):
        load_initial_barrier(stage_of(wider), run_id)


def test_the_stage_trains_from_it_and_says_so_in_a_tag(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, init_run = MlflowClient().create_run(experiment).info.run_id, safety_run(experiment, seed=2)
    started: dict[str, Any] = {}
    monkeypatch.setattr(pretrain_cbf, "load_policy", lambda stage: random_policy(SYSTEM))
    monkeypatch.setattr(pretrain_cbf, "pretrain_barrier", pretend(started))
    outcome = pretrain_cbf.work(stage_of(SYSTEM, run_id, init_run=init_run))
    jax.tree.map(np.testing.assert_array_equal, started["start"], random_barrier(SYSTEM, 2))
    run = MlflowClient().get_run(run_id)
    assert run.data.tags["drone_cbf.init_run"] == init_run
    assert run.data.metrics["final/gap/boundary_error_mean"] == 0.02
    assert "| gap " in outcome.summary and "boundary_overestimate_p99" in outcome.summary
    assert "figures/strata.png" in [file.path for file in MlflowClient().list_artifacts(run_id, "figures")]
    pretrain_cbf.work(stage_of(SYSTEM, run_id))
    assert started["start"] is None, "without init_run, from scratch"


def pretend(started: dict[str, Any]) -> Callable[..., PretrainingResult]:
    """A training that only notes what it starts from."""

    def pretrain(
        system: SystemConfig, settings: Any, policy: Any, recorder: Any, start: Any, programs: Any
    ) -> PretrainingResult:
        started["start"] = start
        flown = SimpleNamespace(analytic=np.linspace(-0.2, 0.2, 50), neural=np.linspace(-0.2, 0.2, 50) + 0.01)
        figures = {"boundary_error_mean": 0.02, "boundary_overestimate_p99": 0.05, "gradient_cosine": 0.9}
        barrier = random_barrier(system)
        return PretrainingResult(barrier, 0.05, {"margin": 0.05}, flown, {"gap": figures})  # type: ignore[arg-type]

    return pretrain


def test_runs_that_began_elsewhere_or_sampled_otherwise_are_not_taken_for_one_another() -> None:
    plain = PretrainParameters(parent_run="a")
    changes: list[dict[str, Any]] = [{"init_run": "b"}, {"strata": ("gap:1",)}, {"temperatures": (0.1,)}]
    digests = [config_digest("pretrain_cbf", plain.model_copy(update=change), SYSTEM) for change in ({}, *changes)]
    assert len(set(digests)) == 4
