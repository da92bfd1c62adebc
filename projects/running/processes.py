"""The processes that workers of a suite or a sweep run in: on this machine, or as tasks of a Ray cluster.

Both are behind one interface. A worker is a module that is started with the arguments of its workflow and, last, the
file to which it prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import mlflow

from drone_cbf.errors import ConfigError
from projects.running.stage_runner import ROOT

SHOWN = 500
"""Characters of a lost worker's output in a message."""
ENDING = 120.0
"""Longest wait for a worker that is asked to end [s]: its stage stores its state first."""
INTERRUPTED = 130
"""Exit code of a worker that was interrupted: what it did can be gone on with."""
LOST = -1
"""Exit code where a process, or the machine that it ran on, is gone without one."""


class WorkerProcess(Protocol):
    """One worker. ``name`` is for messages."""

    name: str

    def poll(self) -> int | None:
        """Exit code, None while it runs."""

    def said(self) -> str:
        """The end of what it printed."""

    def terminate(self) -> None:
        """Asks it to end: its stage stores its state."""

    def wait(self) -> None:
        """Until it has ended; one that does not is killed."""


Begin = Callable[[Sequence[str], Mapping[str, str]], WorkerProcess]
"""Starts a worker, given its arguments and environment variables."""


def process_starter(module: str, cluster: str, workers: int, folder: Path) -> Begin:
    """Starts workers that run ``module``, where ``cluster`` says; ``folder`` is for what they print on this machine.

    Raises:
        ConfigError: that is not possible here.
    """
    if cluster == "none":
        return lambda arguments, settings: LocalProcess(module, arguments, settings, folder)
    cores = join_ray(workers)
    return lambda arguments, settings: RayTask(module, arguments, settings, cores)


class LocalProcess:
    """A process of this machine."""

    def __init__(self, module: str, arguments: Sequence[str], settings: Mapping[str, str], folder: Path) -> None:
        self._output = Path(tempfile.mkstemp(suffix=".txt", prefix="worker-", dir=folder)[1])
        with self._output.open("wb") as file:
            self._process = subprocess.Popen(
                command(module, arguments, self._output), cwd=ROOT, env={**os.environ, **settings},
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.name = f"process {self._process.pid}"

    def poll(self) -> int | None:
        return self._process.poll()

    def said(self) -> str:
        return end_of(self._output)

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RayTask:
    """A task of the Ray cluster: a process wherever there is room, on a machine that holds this project in the same
    folder."""

    def __init__(self, module: str, arguments: Sequence[str], settings: Mapping[str, str], cpus: int) -> None:
        import ray

        self._ray = ray
        self._result: tuple[int, str] | None = None
        # Ray itself starts no lost task again: what it did is handed on by the workflow, and not done twice.
        remote = ray.remote(max_retries=0, num_cpus=cpus)(_as_task)
        self._reference = remote.remote(module, list(arguments), dict(settings), str(ROOT))
        self.name = f"Ray task {self._reference.hex()[:12]}"

    def poll(self) -> int | None:
        if self._result is None and self._ray.wait([self._reference], timeout=0)[0]:
            try:
                self._result = self._ray.get(self._reference)
            except Exception as error:  # its process, or its machine, is gone; or it was cancelled
                self._result = LOST, f"{type(error).__name__}: {error}"
        return None if self._result is None else self._result[0]

    def said(self) -> str:
        return self._result[1][-SHOWN:] if self._result else ""

    def terminate(self) -> None:
        self._ray.cancel(self._reference, force=False)

    def wait(self) -> None:
        if not self._ray.wait([self._reference], timeout=ENDING)[0]:
            self._ray.cancel(self._reference, force=True)


def _as_task(module: str, arguments: list[str], settings: dict[str, str], root: str) -> tuple[int, str]:
    """In a process of Ray's: exit code of the worker, and the end of what it printed."""
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        output = Path(folder) / "output.txt"
        # Ray counts the devices and threads of a task; a stage settles both itself.
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "CUDA_VISIBLE"))}
        with output.open("wb") as file:
            process = subprocess.Popen(
                command(module, arguments, output),
                cwd=root,
                env={**inherited, **settings},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            return process.wait(), end_of(output)
        except KeyboardInterrupt:  # how Ray cancels
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING)
            process.kill()
            raise


def command(module: str, arguments: Sequence[str], output: Path) -> list[str]:
    """Starts a worker that can read what it printed from ``output``."""
    return [sys.executable, "-m", module, *arguments, str(output)]


def end_of(output: Path) -> str:
    return " ".join(output.read_text(errors="replace").split())[-SHOWN:]


def join_ray(workers: int) -> int:
    """Joins the cluster that ``RAY_ADDRESS`` names, or starts one on this machine; cores of each worker.

    Raises:
        ConfigError: Ray is not installed, or the cluster has several machines and the runs lie in a file of this one.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # the tasks are the work; Ray's default is 15
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("cluster = ray needs Ray: pip install -e '.[ray]' -c constraints.txt") from error
    address = os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address:
        ray.init(address=address, **quiet)
    else:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    machines = sum(node["Alive"] for node in ray.nodes())
    if machines > 1 and not mlflow.get_tracking_uri().startswith("http"):
        place = mlflow.get_tracking_uri()
        raise ConfigError(
            f"the Ray cluster has {machines} machines, but the runs lie in {place}, which only this one sees; start an "
            "MLflow server and name it by MLFLOW_TRACKING_URI (docs/team-server.md)"
        )
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // workers)
