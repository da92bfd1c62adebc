"""What logging to MLflow costs, as a share of training time.

    python -m benchmarks.logging_cost                        sqlite, and a team server started on this machine
    python -m benchmarks.logging_cost --stores sqlite        one of them
    python -m benchmarks.logging_cost --stores http://...    a server that runs already
    python -m benchmarks.logging_cost --pairs 8              besides, blocks of training with and without logging

Every stage that trains learns for a while, and what it would log is kept. Figures, in batches as in training, and a
state to resume from are then handed to the recorder that every stage uses, with nothing else running: the processor
time of the whole process is what they cost. Training runs on while a background thread stores, but all cores are its
own, so all of that time counts as lost. What a run costs once (start, settings, datasets, final checkpoint, end) is
wall clock, set against the stage's default length. Drawing pictures is work of the stage and not counted.

Noise of the machine does not pass for cost this way, nor does what logging hinders without computing. That shows in
pairs of blocks (benchmarks/logging_blocks.py): with and without logging in turns, the mean ratio and its 95 % interval.
Progress goes to stderr, the Markdown table to stdout; the exit code is 1 where a whole run costs more than is allowed.

The server that is started here shares the processor with the training; a real one does not.
"""

from __future__ import annotations

import argparse
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
from flax.traverse_util import unflatten_dict

from benchmarks.logging_blocks import Finished, block_ratios, interval_text
from drone_cbf.barrier.neural import BarrierParams, initial_barrier_params
from drone_cbf.config import Section, SystemConfig
from drone_cbf.policy.policies import PolicyParams, initial_policy_params
from drone_cbf.recorder import Recorder, SilentRecorder
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.checkpoints.packages import to_leaves
from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.recording.mlflow_recorder import BETWEEN_STATES, INTERVAL, MlflowRecorder
from drone_cbf.tracking.runs.stage_run import StageRun, stage_run
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings
from drone_cbf.training.stages.efficiency import train_efficiency
from drone_cbf.training.stages.pretraining import pretrain_barrier
from drone_cbf.training.stages.safety import train_safety
from projects.inputs.curriculum_files import load_curriculum
from projects.running.run_names import scene_datasets
from projects.running.stage_runner import ROOT, collect_rarely, configure_jax
from tools.team_server import team_server

LIMITS = {"sqlite": 0.02, "server": 0.05}
"""Share of training time that logging may cost."""
REPEATS = 5
"""How often what is not an update is measured; the median counts."""


@dataclass(frozen=True)
class Training:
    """A stage to be measured."""

    stage: str
    settings: Callable[[int], Section]
    """For so many updates."""
    block: int
    """Updates in a block: about ten seconds, with a state to resume from and, for pretrain_cbf, validations in it."""
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


class Heard(SilentRecorder):
    """What a training would log, and when it came, up to the update ``last``."""

    def __init__(self, last: int) -> None:
        self._last = last
        self.figures: list[tuple[int, Mapping[str, float]]] = []
        self.times: list[float] = []
        self.state: Any = None
        """The latest to resume from."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.figures.append((step, values))
        self.times.append(time.perf_counter())
        if step >= self._last and self.state is not None:
            raise Finished

    def progress(self, step: int, tree: Any) -> None:
        self.state = unflatten_dict(to_leaves(tree))


@dataclass(frozen=True)
class Cost:
    """What was measured of one stage with one store."""

    training: Training
    store: str
    rate: float
    """Updates per second without logging."""
    figures: float
    """Figures stored of an update, on average."""
    update: float
    """Processor time to store them [s]."""
    state: float
    """Processor time to store a state to resume from [s]."""
    once: float
    """What each run costs once [s]."""
    ratios: np.ndarray
    """(pairs,) Time of a block of training that logs over that of one beside it that does not."""

    @property
    def duration(self) -> float:
        """Of the updates of a default run [s]."""
        return self.training.default_steps / self.rate

    @property
    def states(self) -> int:
        """Stored by a default run: the first that is offered, then one in each interval."""
        return 1 + int(self.duration / BETWEEN_STATES)

    @property
    def whole(self) -> float:
        """Share of a whole default run."""
        return self.update * self.rate + (self.states * self.state + self.once) / self.duration

    @property
    def allowed(self) -> float:
        return LIMITS.get(self.store, LIMITS["server"])

    def row(self) -> dict[str, object]:
        return {
            "store": self.store,
            "stage": self.training.stage,
            "updates/s": f"{self.rate:.2f}",
            "figures of an update": f"{self.figures:.1f} in {1e3 * self.update:.2f} ms",
            "states of a run": f"{self.states} of {1e3 * self.state:.0f} ms",
            "once per run": f"{self.once:.2f} s",
            "whole default run": f"{self.whole:.2%}",
            "allowed": f"{self.allowed:.0%}",
            **({"blocks with logging": interval_text(self.ratios)} if len(self.ratios) else {}),
        }


def measure(training: Training, store: str, pairs: int) -> Cost:
    """Trains in the active store."""
    system = SystemConfig()
    print(f"{training.stage} with {store}: compiling", file=sys.stderr)
    settings, heard = training.settings(2 * training.block + 1), Heard(2 * training.block)
    with suppress(Finished):
        training.train(system, settings, heard)
    rate = measured_rate(heard, training.block)
    with stage_run(training.stage, ROOT) as run:
        update, state = processor_time(run, heard, rate)
    once = statistics.median(measure_once(training, system, settings) for _ in range(REPEATS))
    ratios = np.array([])
    if pairs:
        long = training.settings(training.block * (2 * pairs + 1) + 1)
        with stage_run(training.stage, ROOT) as run:
            ratios = block_ratios(lambda recorder: training.train(system, long, recorder), run, training.block, pairs)
    figures = sum(len(values) for _, values in heard.figures) / (heard.figures[-1][0] + 1)
    return Cost(training, store, rate, figures, update, state, once, ratios)


def measured_rate(heard: Heard, block: int) -> float:
    """Updates per second after the first ``block`` of them, which compile."""
    begin = next(index for index, (step, _) in enumerate(heard.figures) if step >= block)
    updates = heard.figures[-1][0] - heard.figures[begin][0]
    return updates / (heard.times[-1] - heard.times[begin])


def processor_time(run: StageRun, heard: Heard, rate: float) -> tuple[float, float]:
    """Of storing the figures of an update, in batches as while training, and of a state [s]."""
    updates = max(1, round(INTERVAL * rate))
    batches = [[] for _ in range(heard.figures[-1][0] // updates + 1)]
    for step, values in heard.figures:
        batches[step // updates].append((step, values))
    spent = [processor_time_of(run, lambda recorder: [recorder.metrics(*one) for one in batch]) for batch in batches]
    states = [processor_time_of(run, lambda recorder: recorder.progress(step, heard.state)) for step in range(REPEATS)]
    # The first batch fills the caches of SQL statements, once in a run: no part of what every update costs.
    return sum(spent[1:]) / (updates * len(spent[1:])), statistics.median(states)


def processor_time_of(run: StageRun, log: Callable[[MlflowRecorder], object]) -> float:
    """Of all threads until everything that ``log`` hands over is stored [s]."""
    recorder = MlflowRecorder(run)
    start = time.process_time()
    log(recorder)
    recorder.close()
    return time.process_time() - start


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
    parser.add_argument("--pairs", type=int, default=0, help="pairs of blocks of training, too (default: none)")
    arguments = parser.parse_args()
    if arguments.pairs < 0 or arguments.pairs == 1:
        parser.error(f"--pairs = {arguments.pairs} must be 0, or at least 2: one pair has no interval")
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
