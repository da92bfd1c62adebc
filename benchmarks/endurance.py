"""Does anything grow? Trains for an hour, or serves 20,000 requests, and watches memory, handles, threads and latency.

    python -m benchmarks.endurance train --minutes=60 --folder=endurance
    python -m benchmarks.endurance serve models:/drone-policy/1 --requests=20000 --folder=endurance
    python -m benchmarks.endurance draw --folder=endurance

``train`` starts ``mlflow run . -e efficiency`` with short updates, each of which logs all its metrics, in a store of
its own below the folder, and stops it with SIGTERM, which ends it resumable. ``serve`` starts ``mlflow models serve``
and asks for clouds of 0 to 10,000 points, each request with the memory of the last answer, and now and then a wrong
one. Both write a table of what all their processes hold, from which ``draw`` makes ``endurance.png`` and prints the
growth: the median of the last tenth over that of the second.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import psutil
from matplotlib.figure import Figure

from drone_cbf.serving.fields import example_observations
from drone_cbf.tracking.runs.tracking_store import prepare_store

ROOT = Path(__file__).resolve().parents[1]
SHORT = {"steps": "100000", "batch": "16", "horizon": "60", "checkpoint_every": "200"}
POINTS = (0, 1, 8, 60, 512, 2_000, 10_000)
"""Sizes of the requests, in turn in a random order."""
WRONG_EVERY = 50
"""Every so many requests one has a field that does not exist."""
EVERY = 2.0
"""Between two looks at the processes [s]."""


def held_by(process: psutil.Process) -> dict[str, float]:
    """What ``process`` and all below it hold together. Memory that they share counts once for each of them."""
    total = {"memory [MB]": 0.0, "handles": 0.0, "threads": 0.0, "processes": 0.0}
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error), one.oneshot():
            found = one.memory_info().rss / 1e6, one.num_fds(), one.num_threads(), 1
            for name, value in zip(total, found, strict=True):
                total[name] += value
    return total


@contextmanager
def watching(process: psutil.Process, name: str, folder: Path) -> Iterator[None]:
    """Writes what ``process`` holds, every :data:`EVERY` seconds, to a table in ``folder``."""
    rows, ended, began = [], threading.Event(), time.monotonic()

    def look() -> None:
        while not ended.wait(EVERY):
            with suppress(psutil.Error):
                rows.append({"seconds": time.monotonic() - began, **held_by(process)})

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        pd.DataFrame(rows).to_csv(folder / f"{name}_held.csv", index=False)


def started(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """An MLflow command in ``folder``, in a session of its own."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def stop(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to ``process`` and all below it, and waits for them."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    psutil.wait_procs(below)


def train(folder: Path, minutes: float) -> None:
    """Trains until the time is over, or training has ended by itself, which is a failure."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    prepare_store()
    given = [word for name, text in SHORT.items() for word in ("-P", f"{name}={text}")]
    process = started(["run", str(ROOT), "-e", "efficiency", "--env-manager", "local", *given], folder)
    with watching(psutil.Process(process.pid), "train", folder), suppress(subprocess.TimeoutExpired):
        process.wait(60.0 * minutes)
        raise SystemExit(f"training ended by itself: see {folder / 'output.txt'}")
    stop(process)
    run = mlflow.search_runs(search_all_experiments=True, output_format="list")[0]
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss/total")
    taken = np.diff([metric.timestamp for metric in history]) / 1e3
    pd.DataFrame({"seconds": np.cumsum(taken), "milliseconds": 1e3 * taken}).to_csv(folder / "train.csv", index=False)
    print(f"run {run.info.run_id} {run.info.status}: {len(history)} updates, {len(run.data.metrics)} metrics each")


def serve(folder: Path, model: str, requests: int) -> None:
    """Asks a server of its own ``requests`` times."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    server = started(words, folder)
    try:
        while not _answers(port):
            if server.poll() is not None:
                raise SystemExit(f"the server has ended: see {folder / 'output.txt'}")
            time.sleep(0.5)
        with watching(psutil.Process(server.pid), "serve", folder):
            table = _ask_again_and_again(lambda body: _post(port, body), requests)
    finally:
        stop(server)
    table.to_csv(folder / "serve.csv", index=False)
    print(f"{requests} requests; answers by HTTP status: {table.groupby('status').size().to_dict()}")


def _answers(port: int) -> bool:
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
        return True
    return False


def _post(port: int, body: bytes) -> tuple[int, dict]:
    request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, {"error": error.read()}


def _ask_again_and_again(ask: Callable[[bytes], tuple[int, dict]], requests: int) -> pd.DataFrame:
    draw, rows, memory, began = np.random.default_rng(0), [], None, time.monotonic()
    for index in range(requests):
        points = int(draw.choice(POINTS))
        fields = {name: np.asarray(value).tolist() for name, value in example_observations().items()}
        fields |= {"points": draw.uniform(-20.0, 20.0, (1, points, 3)).tolist(), "mask": [[True] * points]}
        if memory is not None:
            fields["memory"] = memory
        if wrong := index % WRONG_EVERY == WRONG_EVERY - 1:
            fields["no_such_field"] = 1.0
        body = json.dumps({"inputs": fields}).encode()
        sent = time.monotonic()
        status, answer = ask(body)
        taken = time.monotonic() - sent
        if (status != 400) if wrong else (status != 200):
            raise SystemExit(f"request {index} with {points} points: HTTP {status}: {answer}")
        memory = memory if wrong else answer["predictions"]["memory"]
        rows.append({"seconds": sent - began, "milliseconds": 1e3 * taken, "points": points, "status": status})
    return pd.DataFrame(rows)


def draw(folder: Path) -> None:
    """The tables of ``folder`` as a figure, and the growth of each column."""
    names = [name for name in ("train", "serve") if (folder / f"{name}_held.csv").exists()]
    figure = Figure(figsize=(5.5 * len(names), 8.0), layout="constrained")
    panels = figure.subplots(4, len(names), squeeze=False, sharex="col")
    for column, name in enumerate(names):
        held, taken = pd.read_csv(folder / f"{name}_held.csv"), pd.read_csv(folder / f"{name}.csv")
        for row, quantity in enumerate(("memory [MB]", "handles", "threads")):
            panels[row, column].plot(held["seconds"] / 60.0, held[quantity])
            panels[row, column].set(ylabel=quantity, ylim=(0.0, 1.1 * held[quantity].max()))
            print(f"{name}: {quantity} x {growth(held[quantity]):.3f}")
        parts = taken.groupby("points") if "points" in taken else [("update", taken)]
        for label, part in parts:
            smooth = part["milliseconds"].rolling(max(len(part) // 50, 1)).median()
            panels[3, column].plot(part["seconds"] / 60.0, smooth, label=str(label))
            print(f"{name}: latency ({label}) x {growth(part['milliseconds']):.3f}")
        panels[0, column].set_title("Training" if name == "train" else "Serving")
        panels[3, column].set(xlabel="minutes", ylabel="median latency [ms]", ylim=(0.0, None))
        panels[3, column].legend(title="points" if "points" in taken else None, ncols=4, fontsize="small")
    figure.savefig(folder / "endurance.png", dpi=120)


def growth(values: pd.Series) -> float:
    """Median of the last tenth over that of the second tenth; the first one warms up."""
    tenth = max(len(values) // 10, 1)
    return float(values.iloc[-tenth:].median() / values.iloc[tenth : 2 * tenth].median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "serve", "draw"))
    parser.add_argument("model", nargs="?", help="URI of a registered policy, to serve")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=20_000, help="to serve (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("endurance"), help="for tables, figure and store")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    if options.what == "train":
        train(folder, options.minutes)
    elif options.what == "serve":
        if not options.model:
            parser.error("serve needs the URI of a model, say models:/drone-policy/1")
        serve(folder, options.model, options.requests)
    else:
        draw(folder)


if __name__ == "__main__":
    main()
