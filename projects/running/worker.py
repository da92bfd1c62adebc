"""Stages as children of a workflow, in a pipeline by one process, so that Python, JAX and MLflow start only once.

MLflow starts ``python -m projects.<stage>`` for every child. Where there is a worker, that process hands its arguments
over, waits, and ends with the stage's exit code.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from socket import AF_UNIX, socket

WORKER = "DRONE_CBF_WORKER"
"""Environment variable of a child: process ID and socket of the worker."""
WATCHING = 0.1
"""Between two looks at whether a child still waits [s]."""
PRELOADED = ("efficiency", "pretrain_cbf", "safety", "evaluate")


def prepare_for_children() -> None:
    """Children run in this interpreter's environment, activated or not, and MLflow does not echo their commands."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    logging.getLogger("mlflow.projects").setLevel(logging.WARNING)


@contextmanager
def stage_worker() -> Iterator[None]:
    """A worker for the children of this process. It imports what they need while this process prepares its own run."""
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder, socket(AF_UNIX) as server:
        server.bind(f"{folder}/worker")
        server.listen()
        command = [sys.executable, "-m", "projects.running.worker", str(server.fileno())]
        root = Path(__file__).resolve().parents[2]
        # The pipe closes when this process ends, however it ends.
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, pass_fds=[server.fileno()])
        server.close()  # from now on connections are refused where the worker has ended
        os.environ[WORKER] = f"{worker.pid} {folder}/worker"
        try:
            yield
        finally:
            del os.environ[WORKER]
            worker.stdin.close()  # type: ignore[union-attr]
            worker.wait()


def hand_over(worker: str, entry: str, arguments: Sequence[str]) -> int | None:
    """Runs ``entry`` in the ``worker`` and returns its exit code; None where the worker has ended."""
    process, address = worker.split(" ", 1)
    client = socket(AF_UNIX)
    try:
        client.connect(address)
    except OSError:
        return None
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # from a terminal the worker gets them twice
        signal.signal(number, lambda number, frame: asked.append(number))
    settings = {name: text for name, text in os.environ.items() if name.startswith("MLFLOW_")}
    with Connection(client.detach()) as connection:
        try:
            connection.send_bytes(json.dumps([entry, list(arguments), settings]).encode())  # send() would pickle
            while not connection.poll(WATCHING):
                if asked:
                    _pass_on(int(process), asked[0])  # again and again: at first the stage may not listen yet
            return int(connection.recv_bytes())
        except (EOFError, OSError):
            print(f"{entry} failed: the process that ran it ended unexpectedly", file=sys.stderr)
            return 1


def _pass_on(process: int, number: int) -> None:
    """A worker without a stage under way ignores these, and a hangup as SIGTERM."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM if number == signal.SIGHUP else number)


def serve(server: socket) -> None:
    """Runs one entry point after another, as children ask for them."""
    from projects.running.launch import launch

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # a stage that is under way handles them
    busy = threading.Lock()
    threading.Thread(target=_end_with_parent, args=(busy,), daemon=True).start()
    for stage in PRELOADED:
        import_module(f"projects.stages.{stage}")
    while True:
        # A child that has been killed meanwhile wants no answer.
        with Connection(server.accept()[0].detach()) as connection, busy, suppress(EOFError, OSError):
            entry, arguments, settings = json.loads(connection.recv_bytes())
            os.environ.update(settings)
            answered = threading.Event()
            watch = threading.Thread(target=_end_with_child, args=(connection, answered), daemon=True)
            watch.start()
            code = launch(entry, arguments)
            answered.set()
            watch.join()
            connection.send_bytes(str(code).encode())


def _end_with_child(connection: Connection, answered: threading.Event) -> None:
    """Ends the stage, as by SIGTERM, where the child that asked for it is killed: nobody waits for it any more."""
    with suppress(OSError):
        while not answered.is_set():
            if connection.poll(WATCHING) and not answered.wait(WATCHING):  # it sends nothing more: this is its end
                os.kill(os.getpid(), signal.SIGTERM)  # again and again: at first the stage may not listen yet


def _end_with_parent(busy: threading.Lock) -> None:
    """Ends this process once its parent has ended; a stage that is under way stores its state first, as by SIGTERM."""
    sys.stdin.buffer.read()
    while not busy.acquire(timeout=WATCHING):
        os.kill(os.getpid(), signal.SIGTERM)  # again and again: at first the stage may not listen yet
    os._exit(0)


if __name__ == "__main__":
    serve(socket(fileno=int(sys.argv[1])))
