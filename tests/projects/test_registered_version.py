"""A registered version: what it holds, and that it answers as the evaluated controller, loaded and over HTTP.

It is registered once and loaded once for all tests of this file: each loading traces and compiles its programs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import utils
from mlflow.pyfunc import PyFuncModel
from mlflow.tracking import MlflowClient

from drone_cbf.serving.fields import OPTIONAL, example_observations
from drone_cbf.serving.service import PolicyService
from projects.registration.register import ROOT
from tests.projects.model_server import free_port, in_a_thread, on_the_command_line, post
from tests.projects.test_register import registered
from tests.projects.trained import GOOD, SYSTEM, controller, evaluated
from tests.stores import tracking

ROUNDING = {"rtol": 1e-6, "atol": 1e-6}
GUIDE, README = ROOT / "docs" / "registry.md", ROOT / "README.md"
SEED, BLEND = 3, 0.25
URI = "models:/whole@challenger"


@dataclass(frozen=True)
class Registered:
    """The runs behind the version ``URI``."""

    training: str
    evaluation: str
    run: Run


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    """The version, in a store of its own that is the active one."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch, tracking(f"sqlite:///{folder}/mlflow.db"):
        patch.chdir(folder)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        experiment = mlflow.create_experiment("registered", artifact_location=(folder / "artifacts").as_uri())
        patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        # MLflow's own trial with the example, of which it only logs that it failed: the server answers the example.
        patch.setattr(utils, "_validate_serving_input", lambda **_: None)
        training, evaluation = evaluated(experiment, training_seed=SEED, blend=BLEND)
        run = registered(experiment, "whole", f"--run={training}")
        patch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())  # for processes that tests start
        yield Registered(training, evaluation, run)


@pytest.fixture(scope="module")
def model(version: Registered) -> PyFuncModel:
    return mlflow.pyfunc.load_model(URI)


def batch(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    fields = {name: rng.normal(size=(count, 3)) for name in ("position", "velocity", "goal", "thrust")}
    fields |= {"points": rng.uniform(-3.0, 3.0, (count, 5, 3)), "mask": np.ones((count, 5), bool)}
    fields["mask"][:, 4], fields["points"][:, 4] = False, np.nan
    return fields


def test_a_version_holds_policy_evidence_and_lineage_and_is_the_challenger(version: Registered) -> None:
    training, evaluation, run = version.training, version.evaluation, version.run
    client = MlflowClient()
    stored = client.get_model_version_by_alias("whole", "challenger")
    tags = stored.tags
    assert tags["drone_cbf.training_run"] == training and tags["drone_cbf.evaluation_run"] == evaluation
    assert tags["drone_cbf.register_run"] == run.info.run_id and tags["drone_cbf.seed"] == str(SEED)
    assert tags["drone_cbf.curriculum"] == "default" and tags["drone_cbf.blend"] == str(BLEND)
    for text in ("success_rate", "0.9961", training, evaluation, "point_velocities", "no_points"):
        assert text in stored.description
    assert "champion" not in client.get_registered_model("whole").aliases, "only the gate promotes"
    model = mlflow.get_logged_model(stored.source.removeprefix("models:/"))
    linked = {metric.key: metric for metric in model.metrics}
    assert linked["eval/success_rate"].value == GOOD["eval/success_rate"]
    assert linked["eval/success_rate"].dataset_name == "fixed_ring+random_cloud+forest"
    assert linked["eval/success_rate"].dataset_digest and "eval/forest/noise_0.05/random/success_rate" not in linked
    assert run.data.tags["drone_cbf.model_version"] == "1" and "### Version 1" in run.data.tags["mlflow.note.content"]


def test_a_loaded_version_answers_as_the_evaluated_controller(model: PyFuncModel) -> None:
    answer, own = model.predict(batch()), PolicyService(SYSTEM, controller(SEED, blend=BLEND))(batch())
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


def test_a_version_is_pinned_and_no_file_may_be_altered_added_or_removed(version: Registered, tmp_path: Path) -> None:
    """Neither of the package of arrays nor of the code."""
    model = Path(mlflow.artifacts.download_artifacts(URI, dst_path=str(tmp_path)))
    code = model / "code" / "drone_cbf"
    requirements = (model / "requirements.txt").read_text()
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert all(line in requirements for line in pinned)
    for file in (next(model.rglob("config.yaml")), code / "safety" / "exact.py", model / "policy_model.py"):
        content = file.read_text()
        file.write_text(content + "\n")
        with pytest.raises(Exception, match=f"{file.name} in .* is missing or altered.*register the policy again"):
            mlflow.pyfunc.load_model(str(model))
        file.write_text(content)
    (code / "extra.py").touch()
    with pytest.raises(ImportError, match="code/drone_cbf/extra.py in .* is missing or altered"):
        mlflow.pyfunc.load_model(str(model))
    (code / "extra.py").unlink()
    (code / "rollout.py").unlink()
    with pytest.raises(ImportError, match="code/drone_cbf/rollout.py in .* is missing or altered"):
        mlflow.pyfunc.load_model(str(model))


@pytest.fixture(params=["in_a_thread", pytest.param("on_the_command_line", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, model: PyFuncModel, tmp_path: Path) -> Iterator[str]:
    """Where the version is served."""
    port = free_port()
    in_thread = request.param == "in_a_thread"
    with in_a_thread(model, port) if in_thread else on_the_command_line(URI, port, tmp_path):
        yield f"http://127.0.0.1:{port}/invocations"


def test_the_server_answers_batches_brakes_when_blind_and_explains_what_is_wrong(address: str) -> None:
    example = {name: values.tolist() for name, values in example_observations().items()}
    status, answer = post(address, {"inputs": example})
    predictions = answer["predictions"]
    assert status == 200 and set(predictions) == {"command", "nominal_command", "h", "status", "memory"}
    assert len(predictions["command"][0]) == 3
    again = post(address, {"inputs": {**example, "memory": predictions["memory"]}})[1]["predictions"]
    assert again["memory"][0][:4] == predictions["memory"][0][:4], "the same flight and place, to the last bit"
    whole_numbers = {**example, "position": [[0, 0, 1]], "velocity": [[3, 0, 0]], "memory": None}
    assert post(address, {"inputs": whole_numbers})[1]["predictions"]["h"] == predictions["h"]
    row = {name: values[0] for name, values in example.items()}
    rows = [row, row, row]  # as many as are compiled
    table = pandas.DataFrame(rows)
    forms = [{form: rows} for form in ("inputs", "instances", "dataframe_records")]
    split = {"dataframe_split": table.to_dict(orient="split")}
    for body in (*forms, split, table.to_parquet()):
        status, several = post(address, body)
        assert status == 200 and len(several["predictions"]["status"]) == 3, several
        assert several["predictions"]["command"][1] == pytest.approx(predictions["command"][0], abs=1e-3)
    status, blind = post(address, {"inputs": {**example, "points": [[]], "mask": [[]]}})
    assert status == 200 and blind["predictions"]["status"] == ["no_points"]
    assert blind["predictions"]["command"][0][0] == -12.0, "as fast as the drone's limits allow"
    for page in (GUIDE, README):
        (documented,) = re.findall(r"^curl .*-d '(.*)'$", page.read_text(), re.MULTILINE)
        assert post(address, documented)[1]["predictions"]["h"] == predictions["h"], "the example, as documented"
    check_refusals_of_the_server(address, example)


def check_refusals_of_the_server(address: str, example: dict[str, Any]) -> None:
    """Every refusal is the model's own: it names field, shape and remedy."""
    row = {name: values[0] for name, values in example.items()}
    for inputs, message in (
        ({**example, "goal": [[1.0, 2.0]]}, "goal has shape (1, 2), expected (1, 3)"),
        ({**example, "position": [[0.0, float("nan"), 0.0]]}, "position[0, 1] = nan is not finite"),
        ({**example, "velocity": [[1e20, 0.0, 0.0]]}, "is out of range; send a finite number between -200 and 200"),
        ({**example, "mask": [[1, 1]]}, "expected true or false"),
        ({**example, "goal": [["x", "y", "z"]]}, "goal holds text"),
        (
            {**example, "point_velocity": [[[-5, 0, 0], [0, 0, 0]]]},
            "did you mean point_velocities?",
        ),
        (row, "position has shape (3), expected (batch, 3)"),
        (row, "send one observation as [[...]]"),
        ({**example, "points": [[[1.5, 0, 1], [0, 2]]]}, "points is ragged"),
        ({**example, "queue": [[[0, 0, 0]]]}, "expected at least (1, 2, 3): the transport delay of this drone holds 2"),
        ({**example, "memory": [[1.0, 0.0, 0.0, 0.0]]}, "memory of observation 0 has 4 numbers, expected"),
        ({name: value for name, value in example.items() if name != "mask"}, "mask is missing (true for the points"),
        ([row, {**row, "thrust": [0, 0, 0]}], "thrust is missing in observation 0 of the batch"),
        ([1.0, 2.0], "expected fields by name"),
    ):
        status, error = post(address, {"inputs": inputs})
        assert status == 400 and message in error["message"], error
    for form in ("instances", "dataframe_records"):
        status, error = post(address, {form: [row, {**row, "point_velocity": row["points"]}]})
        assert status == 400 and "did you mean point_velocities?" in error["message"], error
