"""Kills a safety run at random moments with SIGKILL, resumes it each time, and compares it with an uninterrupted one.

    python benchmarks/resume_after_kill.py --parent_run=<pretrain_cbf run> --curriculum=default --kills=10

Runs in the store of the current folder. Exits with 1 unless it was killed so often, and every parameter of both final
checkpoints and every metric at every step is the same to the last bit.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from drone_cbf.tracking.checkpoints.packages import to_leaves  # noqa: E402
from drone_cbf.tracking.checkpoints.store import FINAL, load_checkpoint  # noqa: E402
from drone_cbf.tracking.tags import RESUMED_TAG, STAGE_TAG  # noqa: E402

REACHED = 0.7
"""Share of the updates after which it is not killed any more: it must not be over before."""
STARTING = 5.0
"""Seconds within which it is killed where it has told nothing yet."""
PROGRESS = re.compile(r"safety: (\d+)/(\d+)")


def main() -> int:
    options = parse()
    plain = start(options, [])
    watch(plain)
    if plain.wait() != 0:
        raise SystemExit("the uninterrupted run failed: see its output")
    whole = newest()
    resumed, kills = kill_and_resume(options, random.Random(options.seed))
    differing = differences(whole, resumed)
    print(f"\nuninterrupted {whole}, killed {resumed} (resumed {len(kills)} times)")
    print("| kills | after update | parameters | metrics | verdict |\n|---|---|---|---|---|")
    leaves, metrics = len(to_leaves(load_checkpoint(whole, FINAL))), len(histories(whole))
    verdict = "identical" if not differing else f"{len(differing)} differ: {', '.join(differing[:5])}"
    print(f"| {len(kills)} | {', '.join(map(str, kills))} | {leaves} arrays | {metrics} | {verdict} |")
    if len(kills) < options.kills:
        print("The run was over before all kills: give it more updates, or slower ones.")
    return 1 if differing or len(kills) < options.kills else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parent_run", required=True, help="ID of a finished pretrain_cbf run")
    parser.add_argument("--curriculum", default="default", help="name or path, as for the entry point safety")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--given", action="append", default=[], help="further parameters of safety, as --given=batch=4")
    return parser.parse_args()


def start(options: argparse.Namespace, arguments: list[str]) -> subprocess.Popen[str]:
    """A safety run in a process group of its own; with ``arguments`` in place of the settings."""
    settings = [f"--parent_run={options.parent_run}", f"--curriculum={options.curriculum}"]
    settings += [f"--{name}" for name in options.given]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "projects.safety", *(arguments or settings)],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def watch(process: subprocess.Popen[str], share: float = math.inf) -> tuple[int, float]:
    """Passes on what a run tells of its progress, every tenth of the updates, until it is ``share`` done, or over.

    The updates that it told of last, and the shortest time that a tenth took [s].
    """
    done, tenth, before = 0, STARTING, time.monotonic()
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        told = PROGRESS.match(line)
        if told:
            done, total = map(int, told.groups())
            now = time.monotonic()
            tenth, before = min(tenth, now - before), now  # the quickest: others compiled or calibrated
            if done >= share * total:
                break
    return done, tenth


def newest() -> str:
    """ID of the safety run that was started last."""
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{STAGE_TAG}` = 'safety'"
    found = client.search_runs(experiments, query, order_by=["attributes.start_time DESC"], max_results=1)
    return found[0].info.run_id if found else ""


def kill_and_resume(options: argparse.Namespace, draw: random.Random) -> tuple[str, list[int]]:
    """Runs once more, killed each time at a random moment; with the updates that it had told of when it was."""
    before, kills = newest(), []
    process = start(options, [])
    run_id = wait_for_new(before)
    while len(kills) < options.kills:
        share = draw.uniform(0.0, REACHED)
        # It tells of every tenth: before the first it is killed while it compiles.
        done, tenth = watch(process, share) if share > 0.1 else (0, STARTING)
        time.sleep(draw.uniform(0.0, min(tenth, STARTING)))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if MlflowClient().get_run(run_id).info.status == "FINISHED":
            return run_id, kills  # too late by a moment: there was nothing left to interrupt
        kills.append(done)
        process = start(options, [f"--resume_run={run_id}"])
        wait_until_reopened(run_id, len(kills), process)
    watch(process)
    if process.wait() != 0:
        raise SystemExit(f"run {run_id} could not be resumed: see its output")
    return run_id, kills


def wait_for_new(before: str) -> str:
    """The run that has just begun and has stored its settings: earlier there is nothing to resume."""
    while True:
        found = newest()
        if found != before and any(file.path == "config.yaml" for file in MlflowClient().list_artifacts(found)):
            return found
        time.sleep(0.2)


def wait_until_reopened(run_id: str, times: int, process: subprocess.Popen[str]) -> None:
    """Another kill counts only once the run goes on."""
    while process.poll() is None and MlflowClient().get_run(run_id).data.tags.get(RESUMED_TAG) != str(times):
        time.sleep(0.1)


def histories(run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every metric of the run, step by step in the order of storing."""
    client = MlflowClient()
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")]
    return {name: [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)] for name in names}


def differences(one: str, other: str) -> list[str]:
    """Names of parameters and metrics that are not the same to the last bit; gaps and duplicates count."""
    first, second = (to_leaves(load_checkpoint(run_id, FINAL)) for run_id in (one, other))
    wrong = ["/".join(name) for name in first.keys() | second.keys() if not same(first.get(name), second.get(name))]
    ours, theirs = histories(one), histories(other)
    return wrong + [name for name in ours.keys() | theirs.keys() if repr(ours.get(name)) != repr(theirs.get(name))]


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and one.tobytes() == other.tobytes()


if __name__ == "__main__":
    raise SystemExit(main())
