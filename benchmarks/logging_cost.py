"""What logging to MLflow costs, as a share of training time.

    python -m benchmarks.logging_cost                        sqlite, and a team server started on this machine
    python -m benchmarks.logging_cost --stores sqlite        one of them
    python -m benchmarks.logging_cost --stores http://...    a server that runs already

One real training loop of every stage that trains; blocks of updates alternate between a recorder that forgets and the
one that every stage uses. A logged block counts until all of it is stored. Its recorder is new, so it stores the
first state to resume from that it is offered, then one every 20 s: oftener than in a whole run. The ratio of each
logged block to the forgotten one beside it gives the mean and its 95 % interval (Student's t on the logarithms). What
a run costs once (start, settings, datasets, final checkpoint, end) is measured apart, and set against the stage's
default length. Drawing pictures is work of the stage and not counted; system metrics run in both kinds of block.
Progress goes to stderr, the Markdown table to stdout; the exit code is 1 where a whole run costs more than is allowed.

The server that is started here shares the processor with the training; a real one does not.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import jax
import mlflow
import numpy as np
from scipy import stats

from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import Section, SystemConfig
from drone_cbf.policy.goal_conditioned import PolicyParams, initial_policy_params
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.checkpoints import save_checkpoint
from drone_cbf.tracking.recorder import MlflowRecorder
from drone_cbf.tracking.runs import StageRun, stage_run
from drone_cbf.training.efficiency import train_efficiency
from drone_cbf.training.pretraining import pretrain_barrier
from drone_cbf.training.recorder import Recorder, SilentRecorder
from drone_cbf.training.safety import train_safety
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings
from projects.curriculum_files import load_curriculum
from projects.presenting import scene_datasets
from projects.running import ROOT, collect_rarely, configure_jax
from tools.team_server import team_server

LIMITS = {"sqlite": 0.02, "server": 0.05}
"""Share of training time that logging may cost."""
STARTS = 5
"""How often the cost of starting and ending a run is measured; the median counts."""


@dataclass(frozen=True)
class Training:
    """A stage to be measured."""

    stage: str
    settings: Callable[[int], Section]
    """For so many updates, with a state to resume from offered in every block."""
    block: int
    """Updates in a block: about ten seconds; for pretrain_cbf with as many validations in each."""
    default_steps: int
    """Updates of a default run."""
    train: Callable[[SystemConfig, Any, Recorder], object]


def _pretrain(system: SystemConfig, settings: Any, recorder: Recorder) -> object:
    return pretrain_barrier(system, settings, _policy(system), recorder)


def _safety(system: SystemConfig, settings: Any, recorder: Recorder) -> object:
    return train_safety(system, settings, _policy(system), _barrier(system), 0.05, recorder)


def _safety_settings(steps: int) -> SafetySettings:
    """The last stage of the default curriculum alone, without what measures it: that is no logging."""
    curriculum = load_curriculum("default")
    last = curriculum.stages[-1].model_copy(
        update={"steps": steps, "success_threshold": 0.0, "violation_threshold": 1e6}
    )
    monitor = curriculum.monitor.model_copy(update={"every": 0})
    return SafetySettings(curriculum=curriculum.model_copy(update={"stages": (last,), "monitor": monitor}))


def _policy(system: SystemConfig) -> PolicyParams:
    return initial_policy_params(system, jax.random.key(0))


def _barrier(system: SystemConfig) -> BarrierParams:
    return initial_barrier_params(system, jax.random.key(0))


def trainings() -> tuple[Training, ...]:
    """All stages that train."""
    default, long = EfficiencySettings().steps, PretrainingSettings().steps
    return (
        Training("efficiency", lambda steps: EfficiencySettings(steps=steps), 100, default, train_efficiency),
        Training("pretrain_cbf", lambda steps: PretrainingSettings(steps=steps), 1000, long, _pretrain),
        Training("safety", _safety_settings, 30, load_curriculum("default").total_steps, _safety),
    )


@dataclass(frozen=True)
class Cost:
    """What was measured of one stage with one store."""

    training: Training
    store: str
    rate: float
    """Updates per second without logging."""
    figures: int
    """Figures stored of an update that is stored."""
    ratios: np.ndarray
    """(pairs,) Time of a logged block over that of the forgotten one beside it."""
    once: float
    """What each run costs once [s]."""

    @property
    def loop(self) -> tuple[float, float, float]:
        """Share that logging adds to an update: mean, and the ends of its 95 % interval."""
        logs = np.log(self.ratios)
        half = stats.t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / math.sqrt(len(logs))
        mean, low, high = (math.expm1(np.mean(logs) + side * half) for side in (0.0, -1.0, 1.0))
        return mean, low, high

    @property
    def whole(self) -> float:
        """Share of a whole default run."""
        return self.loop[0] + self.once * self.rate / self.training.default_steps

    @property
    def allowed(self) -> float:
        return LIMITS.get(self.store, LIMITS["server"])

    def row(self) -> dict[str, object]:
        mean, low, high = self.loop
        return {
            "store": self.store,
            "stage": self.training.stage,
            "updates/s": f"{self.rate:.2f}",
            "figures": self.figures,
            "loop": f"{mean:+.2%} ({low:+.2%} to {high:+.2%}, n = {len(self.ratios)})",
            "once per run": f"{self.once:.2f} s",
            "whole default run": f"{self.whole:+.2%}",
            "allowed": f"{self.allowed:.0%}",
        }


class Finished(Exception):
    """All blocks are measured: ends the training."""


class Alternating(SilentRecorder):
    """A recorder that forgets and logs in turns, and times its blocks; the first block warms up and is not counted."""

    def __init__(self, run: StageRun, block: int, pairs: int) -> None:
        self._run, self._block, self._pairs = run, block, pairs
        self._logged: MlflowRecorder | None = None
        self._started = 0.0
        self.times: dict[bool, list[float]] = {False: [], True: []}
        """Logged or not -> seconds of each block."""
        self.figures = 0
        self._turns = 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.figures = len(values) if step == 0 else self.figures
        if self._logged is not None:
            self._logged.metrics(step, values)
        if step and step % self._block == 0:  # the state after the step before is of the block that ends
            self._turn()

    def progress(self, step: int, tree: Any) -> None:
        if self._logged is not None:
            self._logged.progress(step, tree)

    def event(self, step: int, text: str) -> None:
        if self._logged is not None:
            self._logged.event(step, text)

    def _turn(self) -> None:
        """A block has ended, the next one begins."""
        logged = self._logged is not None
        if self._logged is not None:
            self._logged.close()
        if self._turns:
            self.times[logged].append(time.perf_counter() - self._started)
            print(f"  block {self._turns}/{2 * self._pairs}: {self.times[logged][-1]:.2f} s", file=sys.stderr)
        if self._turns == 2 * self._pairs:
            raise Finished
        self._turns += 1
        # Off, on, on, off: a drift of the machine's speed falls on both alike.
        self._logged = MlflowRecorder(self._run) if self._turns % 4 in (2, 3) else None
        self._started = time.perf_counter()


def measure(training: Training, store: str, pairs: int) -> Cost:
    """Trains in the active store."""
    system = SystemConfig()
    settings = training.settings(training.block * (2 * pairs + 1) + 1)
    print(f"{training.stage} with {store}: compiling", file=sys.stderr)
    with stage_run(training.stage, ROOT, system_metrics=True) as run:
        recorder = Alternating(run, training.block, pairs)
        with suppress(Finished):
            training.train(system, settings, recorder)
    once = statistics.median(measure_once(training, system, settings) for _ in range(STARTS))
    off, on = (np.array(recorder.times[logged]) for logged in (False, True))
    rate = training.block / float(np.median(off))
    return Cost(training, store, rate, recorder.figures, on / off, once)


def measure_once(training: Training, system: SystemConfig, settings: Section) -> float:
    """Seconds that a run of the stage costs whatever its length."""
    networks = {"efficiency": (_policy,), "pretrain_cbf": (_barrier,), "safety": (_policy, _barrier)}
    params = [initialise(system) for initialise in networks[training.stage]]
    start = time.perf_counter()
    with stage_run(training.stage, ROOT) as run:
        parts = {"parameters": settings.model_dump(mode="json"), "system": system.model_dump(mode="json")}
        run.log_config({"stage": training.stage, **parts})
        for dataset, context in scene_datasets(settings, system):
            run.log_dataset(dataset, context)
        # AdamW keeps two numbers beside each parameter.
        save_checkpoint(run.run_id, "final", {"params": params, "optimiser": {"mean": params, "square": params}})
        run.describe("### Nothing learned")
    return time.perf_counter() - start


@contextmanager
def active_store(store: str) -> Iterator[None]:
    """The named store, fresh where it is not one that runs already."""
    with tempfile.TemporaryDirectory(prefix="logging-cost-") as folder:
        with team_server() if store == "server" else nullcontext() as server:
            if server is not None:
                os.environ.update(server.environment())
            uri = server.uri if server is not None else f"sqlite:///{folder}/mlflow.db" if store == "sqlite" else store
            mlflow.set_tracking_uri(uri)
            before = os.getcwd()
            os.chdir(folder)  # artifacts of a sqlite store come to lie here
            try:
                yield
            finally:
                os.chdir(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", default="sqlite,server", help="sqlite, server, or addresses (default: %(default)s)")
    parser.add_argument(
        "--stages", default="efficiency,pretrain_cbf,safety", help="which to train (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=10, help="pairs of blocks per figure (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error("--pairs must be at least 2: one pair has no interval")
    known = trainings()
    chosen = [training for training in known if training.stage in arguments.stages.split(",")]
    if len(chosen) != len(arguments.stages.split(",")):
        parser.error(f"--stages are of {', '.join(training.stage for training in known)}")
    configure_jax()
    collect_rarely()
    costs = []
    for store in arguments.stores.split(","):
        with active_store(store):
            costs += [measure(training, store, arguments.pairs) for training in chosen]
    print(markdown_table([cost.row() for cost in costs]))
    sys.exit(int(any(cost.whole > cost.allowed for cost in costs)))


if __name__ == "__main__":
    main()
