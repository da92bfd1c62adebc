"""Every form of MLflow's protocol, through the function with which its server answers a request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server

from drone_cbf.serving.fields import OPTIONAL, REQUIRED, example_observations
from drone_cbf.serving.observations import check_observations
from drone_cbf.tracking.registry.scoring import MARK, hand_over_requests_as_sent
from drone_cbf.tracking.registry.served_model import ServedPolicy, policy_signature

EXAMPLE = {name: values.tolist() for name, values in example_observations().items()}
ROW = {name: values[0] for name, values in EXAMPLE.items()}
NAMES = list(ROW)
QUEUE = 2


class Checking:
    """Answers with what it was asked, if that is a valid batch."""

    def predict(self, model_input: Any, params: Any = None) -> Mapping[str, Any]:
        return ServedPolicy(self.answer)(model_input)

    def answer(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        request = check_observations(fields, QUEUE)
        memory = None if request.memory is None else [row is not None for row in request.memory]
        return {"position": request.position, "points": request.points, "memory": memory}


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    hand_over_requests_as_sent()
    hand_over_requests_as_sent()


def model(metadata: dict[str, str] | None = MARK) -> PyFuncModel:
    return PyFuncModel(Model(signature=policy_signature(REQUIRED, OPTIONAL), metadata=metadata), Checking())


def asked(body: Any, kind: str = "application/json", metadata: dict[str, str] | None = MARK) -> dict[str, Any]:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    answer = scoring_server.invocations(data, kind, model(metadata), None)
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def refusal(body: Any, kind: str = "application/json", metadata: dict[str, str] | None = MARK) -> str:
    """The last line of a refusal, which is the model's own: before it MLflow repeats what was sent."""
    with pytest.raises(MlflowException) as caught:
        asked(body, kind, metadata)
    assert caught.value.get_http_status_code() == 400
    return caught.value.message.splitlines()[-1]


def split(*rows: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    names = list(rows[0])
    return {"dataframe_split": {"columns": names, "data": [[row[name] for name in names] for row in rows], **more}}


def forms(*rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same batch in every form that JSON has."""
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
    records = [{form: list(rows)} for form in ("inputs", "instances", "dataframe_records")]
    table = pandas.DataFrame(list(rows)).astype(object)
    as_pandas = {"dataframe_split": json.loads(table.where(table.notna(), None).to_json(orient="split"))}
    return [*records, {"inputs": columns}, {"instances": columns}, as_pandas, columns]


@pytest.mark.parametrize("form", range(7))
def test_every_form_carries_a_batch(form: int) -> None:
    second = {**ROW, "position": [4e5 + 0.0001, 5, 1], "memory": [1.0, 2.0]}
    answer = asked(forms(ROW, second)[form])
    assert answer["position"] == [[0.0, 0.0, 1.0], [4e5 + 0.0001, 5.0, 1.0]]
    assert answer["points"] == [ROW["points"]] * 2
    assert answer["memory"] == [False, True], "a flight that begins beside one that goes on"


@pytest.mark.parametrize("form", range(7))
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"point_velocity": [[0, 0, 0]] * 2}, "point_velocity is no field .* did you mean point_velocities?"),
        ({"goal": [1.0, 2.0]}, r"goal has shape \(2, 2\), expected \(2, 3\)"),
        ({"goal": ["x", "y", "z"]}, "goal holds text"),
        ({"velocity": [1e20, 0, 0]}, "is out of range; send a finite number"),
        ({"position": [[0.0, 0.0, 1.0]]}, r"position has shape \(2, 1, 3\).*without a batch axis of its own"),
    ],
)
def test_every_form_has_the_models_own_refusals(form: int, changed: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(forms({**ROW, **changed}, {**ROW, **changed})[form]))


@pytest.mark.parametrize("form", range(7))
def test_what_only_some_records_hold_is_refused_by_name(form: int) -> None:
    assert "thrust is missing in observation 0" in refusal(forms(ROW, {**ROW, "thrust": [0, 0, 0]})[form])
    ragged = {**ROW, "points": [[1.5, 0, 1]], "mask": [True]}
    assert "is ragged" in refusal(forms(ROW, ragged)[form])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": ROW}, "send one observation as [[...]]"),
        ({"inputs": EXAMPLE, "instances": [ROW]}, "instances is sent beside inputs; send all fields within one of"),
        ({"inputs": EXAMPLE, "params": {"speed": 3}}, "params is sent beside inputs"),
        ({"input": EXAMPLE}, "input is no form of a request; did you mean inputs?"),
        ({"dataframe_records": EXAMPLE}, "dataframe_records holds fields by name, expected a list of one dictionary"),
        ({"instances": [[1.0]]}, 'instances holds a list without fields, expected fields by name, or a list of one'),
        ({"observation": EXAMPLE}, "observation is no form of a request; the forms: inputs, instances"),
        ({"inputs": []}, "inputs holds an empty list"),
        ({"inputs": "x"}, "inputs holds text, expected fields by name"),
        ({"dataframe_split": [ROW]}, "dataframe_split holds a list without fields, expected columns and data"),
        ({"dataframe_split": {"data": []}}, "dataframe_split holds data, expected columns and data"),
        (split(ROW, names=[]), "dataframe_split holds columns, data, names, expected columns and data"),
        ({"dataframe_split": {"columns": "ab", "data": []}}, "columns of dataframe_split holds text, expected a list"),
        ({"dataframe_split": {"columns": NAMES, "data": [[1], 2]}}, "row 0 of dataframe_split holds 1 values"),
        ({"dataframe_split": {"columns": NAMES, "data": [7]}}, "row 0 of dataframe_split holds 7, expected 5"),
        ({"dataframe_split": {"columns": ["goal", "goal"], "data": []}}, "the table names goal twice"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_as_it_should_be_is_refused_with_the_one_to_use(body: Any, message: str) -> None:
    assert message in refusal(body)


def test_tables_come_as_parquet_and_in_csv_are_refused_with_what_to_send() -> None:
    table = pandas.DataFrame([ROW, ROW])
    assert len(asked(table.to_parquet(), "application/vnd.apache.parquet")["position"]) == 2
    message = refusal(table.to_csv(index=False), "text/csv")
    assert "position holds text" in message and "CSV, which knows no lists; send {" in message
    assert refusal(table.rename(columns={"goal": "gaol"}).to_parquet(), "application/vnd.apache.parquet").startswith(
        "Error: gaol is no field of an observation; did you mean goal?"
    )


def test_other_models_in_the_process_are_served_as_before() -> None:
    assert "must be a dictionary with 'inputs' key" in refusal({"instances": [ROW]}, metadata=None)
    assert asked({"inputs": EXAMPLE}, metadata=None)["position"] == EXAMPLE["position"]
