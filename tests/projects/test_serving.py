"""The real server of MLflow, on loopback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import mlflow
import pandas
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server

from drone_cbf.serving.fields import example_observations
from projects.running.launch import launch
from tests.projects.trained import evaluated

ROOT = Path(__file__).resolve().parents[2]
GUIDE, README = ROOT / "docs" / "registry.md", ROOT / "README.md"
PATIENCE = 600.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def in_a_thread(port: int, folder: Path) -> Iterator[None]:
    """MLflow's server in this process, which has imported everything."""
    with pytest.MonkeyPatch.context() as patch:  # of the environment, which the server changes
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        app = scoring_server.init(mlflow.pyfunc.load_model("models:/served@challenger"))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", thread.is_alive, lambda: "the thread has ended")
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@contextmanager
def on_the_command_line(port: int, folder: Path) -> Iterator[None]:
    """``mlflow models serve``, started in an empty folder as a user would."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/served@challenger"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PATH": path}
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)],
        cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        told = (folder / "server.log").read_text
        wait_until_up(f"http://127.0.0.1:{port}/ping", lambda: server.poll() is None, told)
        yield
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
        log.close()


@pytest.fixture(params=[in_a_thread, pytest.param(on_the_command_line, marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, experiment: str, tmp_path: Path) -> Iterator[str]:
    """Where a registered version is served."""
    _, evaluation = evaluated(experiment)
    assert launch("register", [f"--run={evaluation}", "--model=served"]) == 0
    port = free_port()
    with request.param(port, tmp_path):
        yield f"http://127.0.0.1:{port}/invocations"


def wait_until_up(url: str, runs: Callable[[], bool], told: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            assert runs(), told()
            time.sleep(0.3)
    raise AssertionError(told())


def post(address: str, body: Any) -> tuple[int, dict[str, Any]]:
    """``body`` is JSON, as text or not, or a table as Parquet."""
    kind = "vnd.apache.parquet" if isinstance(body, bytes) else "json"
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    content = text if isinstance(text, bytes) else text.encode()
    request = Request(address, content, {"Content-Type": f"application/{kind}"})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read(), parse_constant=not_json)
    except HTTPError as error:
        return error.code, json.loads(error.read())


def not_json(constant: str) -> float:
    raise AssertionError(f"{constant} is not valid JSON")


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
    rows, table = [row, row], pandas.DataFrame([row, row])
    forms = [{form: rows} for form in ("inputs", "instances", "dataframe_records")]
    split = {"dataframe_split": table.to_dict(orient="split")}
    for body in (*forms, split, table.to_parquet()):
        status, two = post(address, body)
        assert status == 200 and len(two["predictions"]["status"]) == 2, two
        assert two["predictions"]["command"][1] == pytest.approx(predictions["command"][0], abs=1e-3)
    status, blind = post(address, {"inputs": {**example, "points": [[]], "mask": [[]]}})
    assert status == 200 and blind["predictions"]["status"] == ["no_points"]
    assert blind["predictions"]["command"][0][0] == -12.0, "as fast as the drone's limits allow"
    for page in (GUIDE, README):
        (documented,) = re.findall(r"^curl .*-d '(.*)'$", page.read_text(), re.MULTILINE)
        assert post(address, documented)[1]["predictions"]["h"] == predictions["h"], "the example, as documented"
    check_refusals(address, example)


def check_refusals(address: str, example: dict[str, Any]) -> None:
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
