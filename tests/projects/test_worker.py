"""The process that runs the stages of a pipeline, from the side of the process that hands them over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from projects.running.worker import WORKER, hand_over, stage_worker

ROOT = Path(__file__).resolve().parents[2]


def child(server: socket, worker: int, tmp_path: Path) -> subprocess.Popen[str]:
    """A stage that MLflow has started."""
    settings = {**os.environ, WORKER: f"{worker} {tmp_path}/worker", "MLFLOW_RUN_ID": "abc"}
    command = [sys.executable, "-m", "projects.safety", "--seed=3"]
    return subprocess.Popen(command, cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def server(tmp_path: Path) -> socket:
    found = socket(AF_UNIX)
    found.bind(f"{tmp_path}/worker")
    found.listen()
    return found


def test_a_child_hands_over_its_arguments_and_run_passes_sigterm_on_and_ends_with_the_workers_code(
    server: socket, tmp_path: Path
) -> None:
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started = child(server, worker.pid, tmp_path)
    with Connection(server.accept()[0].detach()) as connection:
        entry, arguments, settings = json.loads(connection.recv_bytes())
        assert (entry, arguments, settings["MLFLOW_RUN_ID"]) == ("safety", ["--seed=3"], "abc")
        started.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == -signal.SIGTERM
        connection.send_bytes(b"130")
    assert started.wait(timeout=60) == 130


def test_a_worker_that_dies_fails_the_child_in_one_line(server: socket, tmp_path: Path) -> None:
    started = child(server, os.getpid(), tmp_path)
    server.accept()[0].close()
    assert started.communicate(timeout=60)[1] == "safety failed: the process that ran it ended unexpectedly\n"
    assert started.returncode == 1


def test_without_a_worker_a_stage_runs_by_itself(tmp_path: Path) -> None:
    assert hand_over(f"{os.getpid()} {tmp_path}/nothing", "safety", []) is None


def test_the_worker_ends_with_the_block() -> None:
    with stage_worker():
        process = int(os.environ[WORKER].split()[0])
        os.kill(process, 0)
    assert WORKER not in os.environ
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
