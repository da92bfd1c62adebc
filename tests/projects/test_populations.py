"""Seeds trained at once: each a run of its own, as it would be alone; it fails, is interrupted and goes on alone."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError, TrainingError
from drone_cbf.tracking.queries.evidence import find_evaluation
from drone_cbf.training.population import OwnPrograms
from projects.cli.stage_parameters import PipelineParameters
from projects.inputs.curriculum_files import with_sizes
from projects.running.launch import launch
from projects.running.populations import parent_of_seed
from projects.running.stage_runner import Outcome, Stage
from projects.stages import efficiency
from projects.workflows import pipeline
from tests.projects.trained import evaluate_run, safety_run

STEPS = 6


@dataclass
class Toy:
    """In place of learning: the logistic map, from a start that is the seed's."""

    fails: dict[int, int] = field(default_factory=dict)
    """Seed -> step at which its training fails."""
    interrupted: dict[int, int] = field(default_factory=dict)
    """Seed -> step at which the process gets SIGINT."""
    begun: list[int] = field(default_factory=list)

    def work(self, stage: Stage) -> Outcome:
        seed = stage.parameters.seed
        self.begun.append(seed)
        programs = stage.programs or OwnPrograms()
        following = programs.shared("update", lambda jit: jit(lambda value: 3.9 * value * (1.0 - value)))
        state = stage.recorder.restore({"step": np.int64(0), "value": np.float32(0.1 + 0.01 * seed)})
        first, value = int(state["step"]), jnp.float32(state["value"])
        stage.recorder.begin("toy", STEPS, first)
        for step in range(first, STEPS):
            value = following(value)
            stage.recorder.metrics(step, {"loss/total": float(value)})
            stage.recorder.progress(step + 1, {"step": np.int64(step + 1), "value": np.float32(value)})
            if self.fails.get(seed) == step:
                raise TrainingError(f"loss/total of seed {seed} became nan")
            if self.interrupted.get(seed) == step:
                os.kill(os.getpid(), signal.SIGINT)
        stage.recorder.checkpoint(STEPS, {"policy": {"weight": value}}, "final")
        stage.run.log_metrics({"final/success_rate": float(value)})
        return Outcome("### Toy", provides=("policy",))


@pytest.fixture
def toy(experiment: str, monkeypatch: pytest.MonkeyPatch) -> Toy:
    found = Toy()
    monkeypatch.setattr(efficiency, "work", found.work)
    return found


def by_stage(experiment: str, stage: str) -> list[Run]:
    found = MlflowClient().search_runs([experiment], f"tags.`drone_cbf.stage` = '{stage}'")
    return sorted(found, key=lambda run: int(run.data.params.get("seed", "0")))


def figures(run: Run) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in MlflowClient().get_metric_history(run.info.run_id, "loss/total")]


def expected(seed: int) -> list[tuple[int, float]]:
    """The logistic map in float64; its few steps amplify what float32 rounds by less than 3.9 each."""
    value, path = 0.1 + 0.01 * seed, []
    for step in range(STEPS):
        value = 3.9 * value * (1.0 - value)
        path.append((step, value))
    return path


def assert_whole(run: Run) -> None:
    wanted = expected(int(run.data.params["seed"]))
    assert [step for step, _ in figures(run)] == [step for step, _ in wanted], "neither gaps nor duplicates"
    np.testing.assert_allclose([v for _, v in figures(run)], [v for _, v in wanted], atol=1e-7 * 3.9**STEPS)


def test_every_seed_is_a_run_of_its_own_as_it_would_have_been_alone(experiment: str, toy: Toy) -> None:
    assert launch("efficiency", ["--seeds=3,5", "--physics.lag_time=0.1"]) == 0
    (population,) = by_stage(experiment, "population")
    assert population.data.tags["drone_cbf.trains"] == "efficiency" and population.info.status == "FINISHED"
    assert population.info.run_name == "population-efficiency-seeds3,5"
    assert launch("efficiency", ["--seed=3", "--physics.lag_time=0.1"]) == 0
    runs = by_stage(experiment, "efficiency")
    assert [run.data.params["seed"] for run in runs] == ["3", "3", "5"]
    for run in runs:
        assert_whole(run)
        assert run.info.status == "FINISHED" and run.data.tags["drone_cbf.provides"] == "policy"
        assert run.data.params["physics.lag_time"] == "0.1"
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == population.info.run_id]
    assert len(nested) == 2
    digests = [run.data.tags["drone_cbf.config_digest"] for run in runs]
    assert digests[0] == digests[1] != digests[2], "a suite takes a member for what it would have trained"


def test_a_member_that_fails_is_named_and_alone_is_trained_again(
    experiment: str, toy: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.fails = {5: 2}
    assert launch("efficiency", ["--seeds=3,5,4"]) == 1
    (population,) = by_stage(experiment, "population")
    told = capsys.readouterr().err
    assert "1 of 3 members failed: seed 5 (run " in told and "loss/total of seed 5 became nan" in told
    assert f"mlflow run . -e efficiency -P resume_run={population.info.run_id}" in told and "Traceback" not in told
    assert [run.info.status for run in by_stage(experiment, "efficiency")] == ["FINISHED", "FINISHED", "FAILED"]
    toy.fails, toy.begun = {}, []
    assert launch("efficiency", [f"--resume_run={population.info.run_id}"]) == 0
    assert toy.begun == [5]
    (population,) = by_stage(experiment, "population")
    assert population.info.status == "FINISHED"
    runs = by_stage(experiment, "efficiency")
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    for run in runs:
        assert_whole(run)


def test_an_interrupted_population_stores_every_member_and_goes_on_with_all_of_them(
    experiment: str, toy: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.interrupted = {4: 3}
    assert launch("efficiency", ["--seeds=4,2"]) == 130
    (population,) = by_stage(experiment, "population")
    assert f"mlflow run . -e efficiency -P resume_run={population.info.run_id}" in capsys.readouterr().err
    assert population.info.status == "KILLED"
    interrupted = by_stage(experiment, "efficiency")
    assert [run.info.status for run in interrupted] == ["KILLED"] * 2
    assert all(len(figures(run)) >= 3 for run in interrupted)
    toy.interrupted = {}
    assert launch("efficiency", [f"--resume_run={population.info.run_id}"]) == 0
    runs = by_stage(experiment, "efficiency")
    assert [run.info.run_id for run in runs] == [run.info.run_id for run in interrupted]
    for run in runs:
        assert_whole(run)


def test_a_seed_builds_on_the_member_of_that_seed(experiment: str, toy: Toy) -> None:
    assert launch("efficiency", ["--seeds=3,5"]) == 0
    (population,), (third, fifth) = by_stage(experiment, "population"), by_stage(experiment, "efficiency")
    assert parent_of_seed(population.info.run_id, 5) == fifth.info.run_id
    assert parent_of_seed(third.info.run_id, 5) == third.info.run_id, "an ordinary run is the parent of every seed"
    with pytest.raises(LineageError, match=r"no finished efficiency run of seed 4 \(finished: 3, 5\)"):
        parent_of_seed(population.info.run_id, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=1,1"], "seeds = 1,1 holds 1 twice"),
        (["--seeds=1,2", "--seed=3"], "seed = 3 together with seeds = 1,2; leave one of them out"),
        (["--seeds=1,x"], "seeds"),
    ],
)
def test_seeds_that_are_not_clear_are_refused_before_any_work(
    experiment: str, toy: Toy, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert launch("efficiency", arguments) == 1
    assert message in capsys.readouterr().err and not toy.begun


def test_a_pipeline_hands_its_seeds_to_every_stage_that_trains() -> None:
    plan = pipeline.stage_parameters(with_sizes(PipelineParameters(curriculum="fast", seeds=(2, 7))), {})
    assert [given.get("seeds") for given in plan.values()] == ["2,7", "2,7", "2,7", None]
    assert not any("seed" in given for given in plan.values())
    alone = pipeline.stage_parameters(with_sizes(PipelineParameters(curriculum="fast", seed=2)), {})
    assert [given.get("seed") for given in alone.values()] == ["2", "2", "2", None]
    assert not any("seeds" in given for given in alone.values())


def test_a_pipeline_of_several_seeds_has_no_evaluation_that_stands_for_it(experiment: str) -> None:
    client = MlflowClient()
    above = client.create_run(experiment, tags={"drone_cbf.stage": "pipeline"}).info.run_id
    found = [evaluate_run(experiment, safety_run(experiment, seed)) for seed in (0, 1)]
    client.set_tag(found[0], "mlflow.parentRunId", above)
    assert find_evaluation(above).info.run_id == found[0]
    client.set_tag(found[1], "mlflow.parentRunId", above)
    with pytest.raises(LineageError, match=f"several seeds; name one of .*{found[1]}.*best_of="):
        find_evaluation(above)
