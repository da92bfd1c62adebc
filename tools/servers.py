"""Servers that a script starts for itself on the loopback address, and surely ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 120.0
"""Longest wait for a server to answer [s]."""


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], bool], settings: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Runs a server in a process group of its own, from when it is ``ready``; the group is ended with the block.

    The server inherits no MLflow settings, only ``settings``; what it prints goes to ``log``, whose folder it works in.

    Raises:
        RuntimeError: it ended or was not ready in time; the message holds the end of what it printed.
    """
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**inherited, **(settings or {})}, cwd=log.parent, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, log, ready)
        yield
    finally:
        _end(process)


@contextmanager
def mlflow_server(
    arguments: Sequence[str], log: Path, port: int, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A light ``mlflow server`` (one worker, no jobs of its own) on the loopback address; yields its address."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", *arguments, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(settings or {})}
    with running(command, log, lambda: _answers(f"{address}/health"), light):
        yield address


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            state = "ended" if process.poll() is not None else f"was not ready within {PATIENCE:.0f} s"
            told = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{process.args[0]} {state}: {told}")  # type: ignore[index]
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a group: asked first, then forced, also what has outlived its leader."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
