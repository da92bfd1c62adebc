"""Events: a new version of the policy is judged by the gate as soon as the server says that it is there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from mlflow.webhooks.delivery import _generate_hmac_signature as mlflow_signature

from projects.running.launch import launch
from tests.projects.trained import evaluated
from tests.stores import tracking
from tools import gate_on_new_version as events
from tools.servers import free_port, mlflow_server

SECRET = "a secret that nobody guesses"


def message(**changes: object) -> bytes:
    data = {"name": "drone-policy", "version": "3", "source": "models:/m-1", "run_id": None, "tags": {}}
    whole = {"entity": "model_version", "action": "created", "timestamp": "2026-01-01", "data": data | changes}
    return json.dumps(whole).encode()


def headers(body: bytes, secret: str = SECRET, age: float = 0.0) -> dict[str, str]:
    sent = str(int(time.time() - age))
    signature = mlflow_signature(secret, "delivery-1", sent, body.decode())
    return {"X-MLflow-Delivery-Id": "delivery-1", "X-MLflow-Timestamp": sent, "X-MLflow-Signature": signature}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[events.Receiver, list[str]]]:
    """A receiver, and the versions that it has judged, in place of the gate."""
    judged: list[str] = []
    monkeypatch.setattr(events, "judge", lambda version: judged.append(version) or "passes")
    with events.Receiver(free_port(), SECRET) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, judged
        server.shutdown()


def post(server: events.Receiver, body: bytes, head: dict[str, str]) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("POST", "/", body, head)
    answer = connection.getresponse()
    told = answer.status, answer.read().decode()
    connection.close()
    return told


def test_a_signed_message_of_a_new_version_is_answered_and_judged(receiver) -> None:
    server, judged = receiver
    body = message()
    assert post(server, body, headers(body)) == (202, "version 3 will be judged\n")
    server.waiting.join()
    assert judged == ["3"]


@pytest.mark.parametrize(
    ("body", "signed", "status"),
    [
        (message(), None, 401),
        (message(), {"secret": "another secret"}, 401),
        (message(), {"body": message(version="4")}, 401),
        (message(), {"age": 600.0}, 401),
        (message(name="other"), {}, 200),
        (message(version="1; rm -rf /"), {}, 200),
        (b"[" * 100_000, {}, 200),
    ],
    ids="unsigned foreign altered old other_model no_version nested".split(),
)
def test_what_is_not_a_new_version_by_this_server_is_not_judged(receiver, body, signed, status) -> None:
    server, judged = receiver
    head = {} if signed is None else headers(**{"body": body} | signed)
    assert post(server, body, head)[0] == status
    server.waiting.join()
    assert judged == []


def test_a_message_that_is_too_large_is_not_read(receiver) -> None:
    server, judged = receiver
    assert post(server, b"", {"Content-Length": "99999999"})[0] == 413 and judged == []


def test_without_a_secret_nothing_listens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "short")
    assert events.main() == 1
    assert "WEBHOOK_SECRET is missing or has less than 16 characters" in capsys.readouterr().err


@pytest.mark.slow
def test_registering_a_version_with_a_real_server_runs_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    port, listening = free_port(), free_port()
    allowed = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    stores = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    with mlflow_server(stores, tmp_path / "server.log", port, allowed) as uri, tracking(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        MlflowClient().create_webhook(
            "gate", f"http://127.0.0.1:{listening}/", ["model_version.created"], secret=SECRET
        )
        experiment = mlflow.create_experiment("webhook")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        _, evaluation = evaluated(experiment)
        with events.Receiver(listening, SECRET) as receiver:
            threading.Thread(target=receiver.serve_forever, daemon=True).start()
            assert launch("register", [f"--run={evaluation}"]) == 0
            end = time.monotonic() + 120.0
            while not (tags := MlflowClient().get_model_version("drone-policy", "1").tags).get("drone_cbf.gate"):
                assert time.monotonic() < end, tags
                time.sleep(0.5)
            receiver.shutdown()
        judged = mlflow.search_runs([experiment], "tags.`drone_cbf.stage` = 'gate'", output_format="list")
        assert len(judged) == 1
