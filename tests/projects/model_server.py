"""The real server of MLflow on loopback, in this process or as a user starts it."""

from __future__ import annotations

import json
import os
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
import pytest
import uvicorn
from mlflow.pyfunc import PyFuncModel, scoring_server

PATIENCE = 600.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def in_a_thread(model: PyFuncModel, port: int) -> Iterator[None]:
    """MLflow's server of a loaded model in this process, which has imported everything."""
    with pytest.MonkeyPatch.context() as patch:  # of the environment, which the server changes
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        app = scoring_server.init(model)
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
def on_the_command_line(uri: str, port: int, folder: Path) -> Iterator[None]:
    """``mlflow models serve``, started in an empty folder as a user would."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri]
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
