"""Judges every new version of the registered policy: receives MLflow's webhook and runs the gate (docs/team-server.md).

    python -m tools.gate_on_new_version [PORT]

Listens on 127.0.0.1 (port 5002), behind a proxy with TLS as the server itself. It needs ``WEBHOOK_SECRET``, the secret
with which the webhook was created, and the variables that name the server to ``mlflow run``. A version of another model
is ignored; a message without a valid signature, too large, or older than five minutes is refused. Versions are judged
one after another, by ``mlflow run . -e gate -P run=<the evaluation that the version names>``; whether they pass stands
in the gate's run and in the version's tags, as when the gate was run by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).resolve().parents[1]
PORT = 5002
MODEL = "drone-policy"
LARGEST = 1 << 20  # Bytes of a message
STALE = 300.0  # Age from which a message is refused [s]: an old one may be sent again by somebody else
PATIENCE = 60.0  # For the tags of a new version [s]
EVENT = ("model_version", "created")


def refusal(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str | None:
    """Why a message is not MLflow's, or None."""
    sent, delivery = headers.get("X-MLflow-Timestamp", ""), headers.get("X-MLflow-Delivery-Id", "")
    if not re.fullmatch(r"\d{1,12}", sent) or abs(now - float(sent)) > STALE:
        return "the message has no timestamp, or is not of now"
    signed = hmac.new(secret.encode(), f"{delivery}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(signed).decode()}"
    if not hmac.compare_digest(headers.get("X-MLflow-Signature", "").encode(), expected.encode()):
        return "the signature is not that of WEBHOOK_SECRET"
    return None


def new_version(body: bytes, model: str = MODEL) -> str | None:
    """Number of the new version of ``model`` that a message is about, or None for any other message."""
    try:
        message: Any = json.loads(body)
        event, name, version = (message["entity"], message["action"]), *map(message["data"].get, ("name", "version"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return version if event == EVENT and name == model and re.fullmatch(r"\d{1,9}", str(version)) else None


def evaluation_of(version: str) -> str | None:
    """ID of the evaluation that a version names, which ``register`` writes just after the version is there."""
    client, end = MlflowClient(), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(MlflowException):
            if found := client.get_model_version(MODEL, version).tags.get("drone_cbf.evaluation_run"):
                return found
        time.sleep(0.5)
    return None


def judge(version: str) -> str:
    """Runs the gate; what came of it."""
    run_id = evaluation_of(version)
    if run_id is None:
        return f"names no evaluation within {PATIENCE:.0f} s: not registered by -e register"
    words = ["run", str(ROOT), "-e", "gate", "--env-manager", "local", "-P", f"run={run_id}"]
    environment = {name: text for name, text in os.environ.items() if name != "WEBHOOK_SECRET"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    code = subprocess.run([sys.executable, "-m", "mlflow", *words], env=environment, check=False).returncode
    return "passes the gate" if code == 0 else "does not pass the gate"


class Receiver(ThreadingHTTPServer):
    """Answers at once and judges later: MLflow waits for the answer, and repeats a message that gets none."""

    daemon_threads = True

    def __init__(self, port: int, secret: str):
        super().__init__(("127.0.0.1", port), _Handler)
        self.secret, self.waiting = secret, queue.Queue[str]()
        threading.Thread(target=self._judge_all, daemon=True).start()

    def _judge_all(self) -> None:
        while True:
            version = self.waiting.get()
            print(f"version {version} of {MODEL} {judge(version)}", flush=True)
            self.waiting.task_done()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = 30.0

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length) or int(length) > LARGEST:
            self._answer(413, f"a message has at most {LARGEST} bytes")
            return
        body = self.rfile.read(int(length))
        if reason := refusal(self.headers, body, self.server.secret, time.time()):
            self._answer(401, reason)
        elif version := new_version(body):
            self.server.waiting.put(version)
            self._answer(202, f"version {version} will be judged")
        else:
            self._answer(200, f"nothing to do: no new version of {MODEL}")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(f"{text}\n".encode())


def main() -> int:
    secret = os.environ.get("WEBHOOK_SECRET", "")
    if len(secret) < 16:
        print("WEBHOOK_SECRET is missing or has less than 16 characters; set that of the webhook", file=sys.stderr)
        return 1
    port = int(sys.argv[1]) if sys.argv[1:] else PORT
    with Receiver(port, secret) as receiver:
        print(f"listening on 127.0.0.1:{port}", flush=True)
        receiver.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
