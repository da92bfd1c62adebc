"""Kills every entry point with SIGKILL at random moments, starts it again, and compares it with one that nobody killed.

    python benchmarks/kill_anywhere.py --kills=200

Works in a store of its own, below ``--folder``. What is killed is drawn too: everything at once, as when the machine is
switched off, or one process: ``mlflow run``, the workflow, its worker, or a stage; the rest must then end by itself.
What can be resumed is resumed, the rest started anew. Exits with 1 unless in the end every figure and array is the same
to the last bit, each stage was done once, and no run is left RUNNING.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.resume_after_kill import differences, histories  # noqa: E402
from drone_cbf.errors import LineageError  # noqa: E402
from drone_cbf.tracking.runs.resuming import check_resumable  # noqa: E402
from drone_cbf.tracking.runs.tracking_store import prepare_store  # noqa: E402
from drone_cbf.tracking.tags import NESTED_TAG, STAGE_TAG  # noqa: E402

MARK = "KILL_ANYWHERE"
"""Environment variable by which all processes of one start are found."""
ENDING = 600.0
"""Within which everything must have ended by itself after one process was killed [s]."""
CURRICULUM = "name: tiny\nstages: [{name: a, steps: 12, noise: 0.02, blend: 0.5, horizon: 40}]\n"
NETWORKS = {"policy.features": "16", "barrier.features": "8"}
MATRIX = {"scenarios": "fixed_ring", "noise": "0.05", "goals": "random", "rollouts": "4"}
TRAINED = ("efficiency", "pretrain_cbf", "safety")


@dataclass
class Harness:
    """A store, the entry points with their parameters, and what was seen."""

    folder: Path
    draw: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    """What was killed -> how often."""
    faults: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Entry point -> how long it takes."""
    whole: dict[str, str] = field(default_factory=dict)
    """Entry point -> its run that nobody killed."""

    def parameters(self, entry: str) -> dict[str, str]:
        curriculum = str(self.folder / "tiny.yaml")
        sizes = {"batch": "3", "horizon": "40", "report_flights": "32"}  # some of which come near an obstacle
        steps = {"efficiency_steps": "45", "pretrain_steps": "300"}
        parent = {name: self.whole.get(before, "") for name, before in PARENTS.get(entry, {}).items()}
        own: dict[str, dict[str, str]] = {
            "efficiency": {"steps": "12", "checkpoint_every": "1", **sizes, **NETWORKS},
            "pretrain_cbf": {"steps": "60", "checkpoint_every": "5", "horizon": "40", "report_flights": "32"},
            "safety": {"curriculum": curriculum, "batch": "3", "report_flights": "32", "checkpoint_every": "1"},
            "evaluate": {**MATRIX, "horizon": "20", "unfiltered_rollouts": "4"},
            "pipeline": {"curriculum": curriculum, **steps, **sizes, **MATRIX, **NETWORKS},
            "suite": {"curricula": curriculum, "seeds": "0", "reuse": "false", **steps, **MATRIX, **NETWORKS}
            | {"batch": "3", "horizon": "40"},
            "gate": {"model": "tiny"},
            "register": {"model": "tiny"},
        }
        return {**own.get(entry, {}), **parent}

    def start(self, entry: str, given: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
        """``mlflow run`` in a session of its own, and the mark of all its processes."""
        mark = uuid.uuid4().hex
        words = [word for name, text in given.items() for word in ("-P", f"{name}={text}")]
        command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", entry, "--env-manager", "local", *words]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        settings = {"PATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "true", MARK: mark}
        with (self.folder / "output.txt").open("ab") as output:
            streams = {"stdout": output, "stderr": output, "stdin": subprocess.DEVNULL}
            return subprocess.Popen(
                command, cwd=self.folder, env={**kept, **settings}, start_new_session=True, **streams
            ), mark

    def finish(self, entry: str) -> None:
        """Runs ``entry`` without killing it."""
        before, began = runs_of(entry), time.monotonic()
        process, _ = self.start(entry, self.parameters(entry))
        if process.wait() != 0 and entry != "gate":  # so small a policy does not pass
            raise SystemExit(f"{entry} fails by itself: see {self.folder / 'output.txt'}")
        self.seconds[entry] = time.monotonic() - began
        self.whole[entry] = next(run_id for run_id in runs_of(entry) if run_id not in before)

    def torment(self, entry: str, kills: int) -> None:
        """Kills ``entry`` up to ``kills`` times, lets it finish, and compares it."""
        known, given, resumed = runs_of(entry), self.parameters(entry), ""
        for _ in range(kills):
            (process, mark), began = self.start(entry, given), time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.draw.uniform(0.0, self.seconds[entry]))
                # The first one compiled: the moments are drawn from how long it takes now.
                self.seconds[entry] = min(self.seconds[entry], time.monotonic() - began)
            victims = marked(mark)
            if process.poll() is None and victims:
                self.kill(victims)
            self.expect_end(entry, mark)
            process.wait()
            if done := finished(runs_of(entry), known):
                self.compare(entry, done)
                known, given, resumed = runs_of(entry), self.parameters(entry), ""
            elif resumed := resumable(entry, known):
                given = {"resume_run": resumed}
            else:
                given = self.parameters(entry)
        if kills and (resumed or not finished(runs_of(entry), known)):
            process, _ = self.start(entry, given)
            code = process.wait()
            done = finished(runs_of(entry), known)
            if done:
                self.compare(entry, done)
            elif entry != "gate":
                self.faults.append(f"{entry} could not be brought to its end (exit code {code})")

    def kill(self, victims: list[psutil.Process]) -> None:
        """Everything at once, or one of them."""
        chosen = victims if self.draw.random() < 0.4 else [self.draw.choice(victims)]
        self.kills["everything" if len(chosen) > 1 else role(chosen[0])] += 1
        for victim in chosen:
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)

    def expect_end(self, entry: str, mark: str) -> None:
        deadline = time.monotonic() + ENDING
        while left := marked(mark):
            if time.monotonic() > deadline:
                self.faults.append(f"{entry}: {role(left[0])} went on for {ENDING:.0f} s after the rest was killed")
                for process in left:
                    process.kill()
            time.sleep(0.1)

    def compare(self, entry: str, run_id: str) -> None:
        """What was killed and resumed against what was not."""
        for stage, (one, other) in pairs(self.whole[entry], run_id, entry).items():
            if other is None or one is None:
                self.faults.append(f"{entry}: {stage} was done {'never' if other is None else 'once too often'}")
                continue
            wrong = differences(one, other) if stage in TRAINED else unequal(one, other)
            self.faults += [f"{entry}: {stage} run {other} differs from {one}: {', '.join(wrong[:5])}"] if wrong else []


PARENTS = {
    "pretrain_cbf": {"parent_run": "efficiency"},
    "safety": {"parent_run": "pretrain_cbf"},
    "evaluate": {"parent_run": "safety"},
    "register": {"run": "evaluate"},
    "gate": {"run": "evaluate"},
    "reproduce": {"run": "efficiency"},
    "compare": {"runs": "suite"},
    "report": {"runs": "pipeline"},
    "results": {"runs": "suite"},
}
"""Entry point -> parameter -> the entry point whose run it names."""
ENTRIES = ("efficiency", "pretrain_cbf", "safety", "evaluate", "pipeline", "suite")
ENTRIES += ("register", "gate", "reproduce", "compare", "report", "results")


def runs_of(entry: str) -> list[str]:
    """IDs of the runs of ``entry`` that are nobody's children, oldest first."""
    return [run.info.run_id for run in search(f"tags.`{STAGE_TAG}` = '{entry}'") if NESTED_TAG not in run.data.tags]


def search(query: str) -> list[Run]:
    order = ["attributes.start_time ASC"]
    return mlflow.search_runs(
        filter_string=query, order_by=order, output_format="list", search_all_experiments=True, max_results=10_000
    )


def finished(runs: list[str], known: list[str]) -> str:
    new = [run_id for run_id in runs if run_id not in known]
    return next((run_id for run_id in new if MlflowClient().get_run(run_id).info.status == "FINISHED"), "")


def resumable(entry: str, known: list[str]) -> str:
    for run_id in [run_id for run_id in runs_of(entry) if run_id not in known][::-1]:
        if entry in (*TRAINED, "pipeline", "suite"):
            with suppress(LineageError):
                check_resumable(run_id, entry)
                return run_id
    return ""


def pairs(whole: str, run_id: str, entry: str) -> dict[str, tuple[str | None, str | None]]:
    """What is to be compared: the run itself, or the finished children of a workflow by stage."""
    if entry not in ("pipeline", "suite"):
        return {entry: (whole, run_id)}
    both: list[dict[str, str]] = []
    for above in (whole, run_id):
        done = search(f"tags.`{NESTED_TAG}` = '{above}' and attributes.status = 'FINISHED'")
        stages = [(run.data.tags.get(STAGE_TAG, ""), run.info.run_id) for run in done if STAGE_TAG in run.data.tags]
        twice = Counter(stage for stage, _ in stages)
        both.append({f"{stage}{'' if twice[stage] == 1 else ' ' + one}": one for stage, one in stages})
    return {stage: (both[0].get(stage), both[1].get(stage)) for stage in {**both[0], **both[1]}}


def unequal(one: str, other: str) -> list[str]:
    """Metrics that differ in any step or bit."""
    ours, theirs = histories(one), histories(other)
    return [name for name in ours.keys() | theirs.keys() if repr(ours.get(name)) != repr(theirs.get(name))]


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def role(process: psutil.Process) -> str:
    """What a process is, for the table."""
    with suppress(psutil.Error):
        words = process.cmdline()
        module = next((word for word in words if word.startswith("projects.")), "")
        return module or ("mlflow run" if "mlflow" in words else words[0].rpartition("/")[2])
    return "a process that had ended"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--entries", default=",".join(ENTRIES), help="entry points to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--folder", type=Path, default=None, help="where the store lies; else a temporary folder")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kill-anywhere-"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(CURRICULUM)
    os.chdir(folder)  # where the first experiment keeps its artifacts
    folder = Path.cwd()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    prepare_store()
    harness, chosen = Harness(folder, random.Random(options.seed)), options.entries.split(",")
    for entry in needed(chosen):
        harness.finish(entry)
        if entry in chosen:
            place = chosen.index(entry)
            harness.torment(entry, options.kills // len(chosen) + (place < options.kills % len(chosen)))
        print(f"{entry}: {sum(harness.kills.values())} kills so far, {len(harness.faults)} faults", flush=True)
    harness.finish("efficiency")  # the next start ends what was left
    left = [run.info.run_id for run in search("attributes.status = 'RUNNING'")]
    harness.faults += [f"run {run_id} is RUNNING though nothing runs" for run_id in left]
    print(f"\n{sum(harness.kills.values())} kills in {folder}\n| killed | times |\n|---|---|")
    print("\n".join(f"| {name} | {count} |" for name, count in harness.kills.most_common()))
    print("\n".join(harness.faults) or "identical; every stage once; no run left RUNNING; nothing went on by itself")
    return 1 if harness.faults else 0


def needed(chosen: list[str]) -> list[str]:
    """The chosen entry points and those whose runs they name, in order."""
    wanted = set(chosen) | {"efficiency"}
    for entry in reversed(ENTRIES):
        wanted |= set(PARENTS.get(entry, {}).values()) if entry in wanted else set()
    return [entry for entry in ENTRIES if entry in wanted]


if __name__ == "__main__":
    raise SystemExit(main())
