"""``evaluate -P replay=...``: from the artifact of one run to the table and figure of another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.controller import ControllerParams
from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.evaluation.matrix import evaluate_matrix
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.evaluation.worst import WorstFlights
from drone_cbf.recorder import ListRecorder
from drone_cbf.tracking.queries.records import artifact_names, evaluations_of, table
from drone_cbf.tracking.runs.stage_run import stage_run
from projects.cli.stage_parameters import EvaluateParameters
from projects.pictures import replay as replaying
from projects.running.stage_runner import ROOT, Stage
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.training.simple_flights import flyer_of, make_simple_pilot

SYSTEM = small_system(scene=few_obstacles(4))
SETTINGS = EvaluationSettings(scenarios=("random_cloud",), noise=(0.05,), goals=("random",), rollouts=3, horizon=8)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(1.0)
)


def stage_of(run, replay="") -> Stage:
    parameters = EvaluateParameters(parent_run="none", replay=replay, **SETTINGS.model_dump())
    return Stage(run, parameters, SYSTEM, {}, None, ListRecorder(), ListRecorder())


@pytest.fixture
def evaluation(experiment: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """ID of a run that holds the worst flights of a small evaluation."""
    monkeypatch.setattr(replaying, "policy_flyer", flyer_of(make_simple_pilot))
    kept = WorstFlights(SETTINGS.blend)
    fly = flyer_of(make_simple_pilot)(SYSTEM, True, SETTINGS.horizon)
    evaluate_matrix(SYSTEM, SETTINGS, PARAMS, {True: fly}, lambda index, cell: None, kept.watch)
    with stage_run("evaluate", ROOT) as run:
        replaying.store_worst(stage_of(run), kept)
        return run.run_id


def test_a_replay_flies_the_worst_flights_of_a_run_and_sets_both_figures_side_by_side(evaluation: str) -> None:
    """And does not count as an evaluation of the policy."""
    assert artifact_names(evaluation, "replay") == [replaying.FILE]
    with stage_run("evaluate", ROOT) as run:
        run.tag(parent_run="policy")
        stage, other = stage_of(run, evaluation), stage_of(run, f"runs:/{evaluation}/{replaying.FILE}")
        told, same = (vars(replaying.load_worst(each)) for each in (stage, other))
        jax.tree.map(np.testing.assert_array_equal, told, same)
        outcome = replaying.replay(stage, PARAMS)
    rows = table(run.run_id, "tables/replay.json")
    assert len(rows) == SETTINGS.rollouts and all(row["same_bits"] for row in rows)
    assert all(row["violation"] == row["violation_recorded"] for row in rows)
    assert [row["status"] for row in rows] == ["intervened"] * 3
    data = MlflowClient().get_run(run.run_id).data
    assert data.metrics["replay/states"] == data.metrics["replay/same_bits"] == 3.0
    assert data.metrics["replay/max_violation"] == data.metrics["replay/max_violation_recorded"] == rows[0]["violation"]
    assert "figures/replay.png" in artifact_names(run.run_id, "figures") and not stage.recorder.events
    assert "random_cloud/noise_0.05/random" in outcome.summary
    assert run.run_id not in [found.info.run_id for found in evaluations_of("policy")]
    assert data.tags["drone_cbf.replayed"] == evaluation


@pytest.mark.slow
def test_another_policy_is_told_apart(evaluation: str) -> None:
    with stage_run("evaluate", ROOT) as run:
        replaying.replay(stage_of(run, evaluation), PARAMS.replace(policy=random_policy(SYSTEM, 1)))
    assert MlflowClient().get_run(run.run_id).data.metrics["replay/same_bits"] == 0.0


def test_what_cannot_be_replayed_is_refused_in_one_line(experiment: str, tmp_path) -> None:
    with stage_run("evaluate", ROOT) as run:
        with pytest.raises(LineageError, match="replay 'nothing' was not found"):
            replaying.load_worst(stage_of(run, "nothing"))
        with pytest.raises(ConfigError, match=f"replay = {run.run_id} has no replay/worst.npz"):
            replaying.load_worst(stage_of(run, run.run_id))
        with pytest.raises(ConfigError, match="absent.npz cannot be read"):
            replaying.load_worst(stage_of(run, str(tmp_path / "absent.npz")))
        with pytest.raises(ConfigError, match="replay needs the filter"):
            replaying.replay(stage_of(run, run.run_id), PARAMS.replace(barrier=None))
