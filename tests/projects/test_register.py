"""From recorded runs to a registered version that answers as the evaluated controller does."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
import numpy as np
import pandas
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.serving.fields import OPTIONAL
from drone_cbf.serving.service import PolicyService
from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.queries.evidence import conditions
from projects.cli.stage_parameters import EvaluateParameters
from projects.registration import register
from projects.running.launch import launch
from tests.projects.test_running import last_run
from tests.projects.trained import GOOD, SYSTEM, controller, evaluate_run, evaluated, safety_run

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


def batch(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    fields = {name: rng.normal(size=(count, 3)) for name in ("position", "velocity", "goal", "thrust")}
    fields |= {"points": rng.uniform(-3.0, 3.0, (count, 5, 3)), "mask": np.ones((count, 5), bool)}
    fields["mask"][:, 4], fields["points"][:, 4] = False, np.nan
    return fields


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


def test_a_version_holds_policy_evidence_and_lineage_and_is_the_challenger(experiment: str) -> None:
    training, evaluation = evaluated(experiment, training_seed=7)
    run = registered(experiment, "whole", f"--run={training}")
    client = MlflowClient()
    version = client.get_model_version_by_alias("whole", "challenger")
    tags = version.tags
    assert tags["drone_cbf.training_run"] == training and tags["drone_cbf.evaluation_run"] == evaluation
    assert tags["drone_cbf.register_run"] == run.info.run_id and tags["drone_cbf.seed"] == "7"
    assert tags["drone_cbf.curriculum"] == "default" and tags["drone_cbf.blend"] == "1"
    for text in ("success_rate", "0.9961", training, evaluation, "point_velocities", "no_points"):
        assert text in version.description
    assert "champion" not in client.get_registered_model("whole").aliases, "only the gate promotes"
    model = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    linked = {metric.key: metric for metric in model.metrics}
    assert linked["eval/success_rate"].value == GOOD["eval/success_rate"]
    assert linked["eval/success_rate"].dataset_name == "fixed_ring+random_cloud+forest"
    assert linked["eval/success_rate"].dataset_digest and "eval/forest/noise_0.05/random/success_rate" not in linked
    assert run.data.tags["drone_cbf.model_version"] == "1" and "### Version 1" in run.data.tags["mlflow.note.content"]


def test_a_loaded_version_answers_as_the_evaluated_controller(experiment: str) -> None:
    training = safety_run(experiment, seed=3)
    evaluation = evaluate_run(experiment, training, blend=0.25)
    registered(experiment, "loaded", f"--run={evaluation}")
    model = mlflow.pyfunc.load_model("models:/loaded@challenger")
    answer, own = model.predict(batch()), PolicyService(SYSTEM, controller(3, blend=0.25))(batch())
    for name in ("command", "nominal_command", "h"):
        np.testing.assert_allclose(answer[name], own[name], **ROUNDING)
    assert list(answer["status"]) == list(own["status"])
    single = {name: values[:1] for name, values in batch().items()}
    as_lists = {name: values.tolist() for name, values in single.items()}
    np.testing.assert_allclose(model.predict(as_lists)["command"], own["command"][:1], rtol=1e-4, atol=1e-4)
    names = model.metadata.get_input_schema()
    assert names.required_input_names() == ["position", "velocity", "goal", "points", "mask"]
    assert names.optional_input_names() == [*OPTIONAL]
    check_tables(model, own)
    check_refusals(model)


def records(fields: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """One dictionary per observation."""
    return [{name: values[row] for name, values in fields.items()} for row in range(len(fields["position"]))]


def check_tables(model: Any, own: dict[str, np.ndarray]) -> None:
    """Records, a table, and the table after a way through Parquet are the same batch."""
    table = pandas.DataFrame({name: list(values) for name, values in batch().items()})
    nested = pandas.DataFrame({name: values.tolist() for name, values in batch().items()})
    stored = io.BytesIO()
    nested.to_parquet(stored)
    for given in (records(batch()), table, nested, pandas.read_parquet(stored)):
        np.testing.assert_allclose(model.predict(given)["command"], own["command"], **ROUNDING)


def check_refusals(model: Any) -> None:
    """Bad shapes, NaN and wrong types are errors with a reason; an empty cloud is answered by braking."""
    for changed, message in (
        ({"goal": np.zeros((3, 2))}, r"goal has shape \(3, 2\), expected \(3, 3\)"),
        ({"position": np.full((3, 3), np.nan)}, r"position\[0, 0\] = nan is not finite"),
        ({"mask": np.ones((3, 5))}, "mask holds values of type float64, expected true or false"),
        ({"velocity": np.zeros((2, 3))}, "velocity"),
    ):
        with pytest.raises(MlflowException, match=message):
            model.predict({**batch(), **changed})
    first, second, third = records(batch())
    for fields, message in (
        ({name: value for name, value in batch().items() if name != "points"}, "points is missing"),
        (
            {**batch(), "point_velocity": np.zeros((3, 5, 3))},
            "point_velocity is no field.*did you mean point_velocities",
        ),
        ([first, second, {**third, "noise": 0.1}], "noise is missing in observation 0"),
        (pandas.DataFrame([first, second, {**third, "queue": np.zeros((2, 3))}]), "queue is missing in observation 0"),
        ([], "the request is list, expected fields by name"),
        (np.zeros((3, 3)), "the request is ndarray, expected fields by name"),
    ):
        with pytest.raises(MlflowException, match=message):
            model.predict(fields)
    blind = model.predict({**batch(), "mask": np.zeros((3, 5), bool)})
    assert list(blind["status"]) == ["no_points"] * 3
    assert np.all(blind["command"] * batch()["velocity"] <= np.abs(batch()["thrust"]) + 1.0)


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
    evaluations = [evaluated(experiment, figures)[1] for figures in reversed(ranked)][::-1]
    for worst in range(len(ranked)):
        registered(experiment, "quick", f"--best_of=tags.drone_cbf.curriculum = 'default' and {mine(experiment)}")
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
