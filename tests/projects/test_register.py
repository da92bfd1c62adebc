"""From recorded runs to a registered version that answers as the evaluated controller does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.queries.evidence import conditions
from projects.cli.stage_parameters import EvaluateParameters
from projects.registration import register
from projects.running.launch import launch
from tests.projects.test_running import last_run
from tests.projects.trained import SYSTEM, evaluate_run, evaluated, safety_run

ROUNDING = {"rtol": 1e-6, "atol": 1e-6}


def registered(experiment: str, model: str, *arguments: str) -> Run:
    """The finished run of ``register``; every test registers under a name of its own, for the store is shared."""
    assert launch("register", [*arguments, f"--model={model}"]) == 0
    return last_run(experiment)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which ``register`` refuses."""
    assert launch("register", [*arguments, "--model=refused"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return shown.splitlines()[-1]


@pytest.fixture
def quick_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without compiling, for tests that only look at what was registered."""
    monkeypatch.setattr(
        register, "register_policy", lambda run, name, servable, evidence: Registered(servable, evidence)
    )


class Registered:
    version = 1

    def __init__(self, servable: Any, evidence: Any) -> None:
        Registered.servable, Registered.evidence = servable, evidence


def test_a_pipeline_leads_to_its_evaluation(experiment: str, quick_model: None) -> None:
    client = MlflowClient()
    training, evaluation = evaluated(experiment)
    pipeline = client.create_run(experiment, tags={"drone_cbf.stage": "pipeline"}).info.run_id
    for run_id in (training, evaluation):
        client.set_tag(run_id, "mlflow.parentRunId", pipeline)
    registered(experiment, "quick", f"--run={pipeline}")
    assert Registered.evidence.tags["drone_cbf.evaluation_run"] == evaluation


def test_of_several_evaluations_of_a_run_the_newest_speaks(experiment: str, quick_model: None) -> None:
    training, _ = evaluated(experiment)
    newest = evaluate_run(experiment, training)
    evaluate_run(experiment, training, status="FAILED")
    registered(experiment, "quick", f"--run={training}")
    assert Registered.evidence.tags["drone_cbf.evaluation_run"] == newest


def test_best_of_ranks_collisions_before_violation_before_success_and_nan_last(
    experiment: str, quick_model: None
) -> None:
    ranked = [
        {"eval/collisions": 0.0, "eval/max_violation": 0.5, "eval/success_rate": 0.99},
        {"eval/collisions": 0.0, "eval/max_violation": 0.5, "eval/success_rate": 0.98},
        {"eval/collisions": 0.0, "eval/max_violation": 0.6, "eval/success_rate": 1.0},
        {"eval/collisions": 1.0, "eval/max_violation": 0.0, "eval/success_rate": 1.0},
        {"eval/collisions": math.nan, "eval/max_violation": 0.0, "eval/success_rate": 1.0},
    ]
    training = safety_run(experiment)
    evaluations = [evaluate_run(experiment, training, figures) for figures in reversed(ranked)][::-1]
    among = f"--best_of=tags.drone_cbf.curriculum = 'default' and {mine(experiment)}"
    for worst in range(len(ranked)):
        registered(experiment, "quick", among)
        assert Registered.evidence.tags["drone_cbf.evaluation_run"] == evaluations[worst]
        MlflowClient().delete_run(evaluations[worst])


def mine(experiment: str) -> str:
    """A filter for the runs of this experiment: the store is shared with other tests."""
    for run in MlflowClient().search_runs([experiment]):
        MlflowClient().set_tag(run.info.run_id, "test", experiment)
    return f"tags.test = '{experiment}'"


def test_evaluations_under_different_conditions_are_not_ranked(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(experiment, rollouts=64)
    evaluated(experiment, rollouts=128)
    message = refused(capsys, f"--best_of={mine(experiment)}")
    assert "2 evaluations under 2 different conditions" in message and "narrow the filter" in message


def test_displaced_scenes_are_other_conditions_and_what_is_not_displaced_keeps_its_digest_of_before() -> None:
    system, given = SYSTEM.model_dump(mode="json"), EvaluateParameters(parent_run="1").model_dump(mode="json")
    earlier = {name: value for name, value in given.items() if name != "augment"}
    told = [given, earlier, given | {"augment": 0.3}]
    plain, before, displaced = (settings_digest(conditions({"parameters": one, "system": system})) for one in told)
    assert plain == before != displaced


def test_what_cannot_be_registered_is_refused_in_one_line_with_the_remedy(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient()
    training = safety_run(experiment)
    assert f"evaluate it first: mlflow run . -e evaluate -P parent_run={training}" in refused(
        capsys, f"--run={training}"
    )
    running = evaluate_run(experiment, training, status="RUNNING")
    assert "is RUNNING; wait until it has finished, or name a finished evaluation" in refused(
        capsys, f"--run={running}"
    )
    toy = client.create_run(experiment, tags={"drone_cbf.stage": "efficiency"}).info.run_id
    client.set_terminated(toy)
    unsafe = evaluate_run(experiment, toy)
    assert "is a run of stage efficiency, expected a finished safety run" in refused(capsys, f"--run={unsafe}")
    assert "give one of run" in refused(capsys) and "give one of run" in refused(capsys, "--run=a", "--best_of=b")
    assert "run 'nothing' was not found" in refused(capsys, "--run=nothing")
    assert "is refused by MLflow" in refused(capsys, "--best_of=a or b")
    assert "finds no finished evaluation" in refused(capsys, "--best_of=tags.x = 'nobody'")
    assert "unknown parameter 'physics.lag_time'" in refused(capsys, "--run=a", "--physics.lag_time=0.1")
    with pytest.raises(MlflowException):
        client.get_registered_model("refused")
    assert all(
        run.info.status == "FAILED" for run in client.search_runs([experiment], "tags.`drone_cbf.stage`='register'")
    )


def test_an_altered_checkpoint_is_not_registered(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    training, _ = evaluated(experiment)
    folder = Path(urlparse(MlflowClient().get_run(training).info.artifact_uri).path) / "checkpoints" / "final"
    file = next(file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
    file.write_bytes(file.read_bytes() + b"x")
    assert "missing or altered" in refused(capsys, f"--run={training}")
    with pytest.raises(MlflowException):
        MlflowClient().get_registered_model("refused")
