"""A trial is stopped by the figures that its training reports, and by nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import optuna
import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from optuna.distributions import FloatDistribution

from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.studies.storage import SweepStudy
from projects.sweeping import reporting
from projects.sweeping.reporting import TrialWatch

METRIC = "eval/success_rate"
RANGES = {"safety.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
OTHERS = 3
"""Trials that are done; each reported 0.8 at step 4."""


@pytest.fixture
def study(experiment: str) -> SweepStudy:
    run_id = MlflowClient().create_run(experiment).info.run_id
    study = SweepStudy(run_id, experiment, "maximize")
    for _ in range(OTHERS):
        trial = ask(study)
        trial.report(0.8, 4)
        study.open().tell(trial, 0.9)
    return study


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """In place of the stage that trains."""
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


def ask(study: SweepStudy) -> optuna.Trial:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=OTHERS, n_min_trials=OTHERS)
    opened = study.open(sampler=optuna.samplers.RandomSampler(0), pruner=pruner)
    trial = study.next_trial(lambda number: opened, RANGES, OTHERS + 1)
    assert trial is not None
    return trial


def training(
    study: SweepStudy, trial: optuna.Trial, stage: str, process: subprocess.Popen[bytes], value: float
) -> None:
    """A run nested in the trial that is under way and has recorded ``value`` at step 4."""
    tags = {"mlflow.parentRunId": str(trial._trial_id), "drone_cbf.stage": stage}
    tags["drone_cbf.process"] = process_name(process.pid)
    run_id = MlflowClient().create_run(study.experiment_id, tags=tags).info.run_id
    MlflowClient().log_batch(run_id, metrics=[Metric(METRIC, value, 0, 4), Metric(METRIC, float("nan"), 0, 9)])


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not until():
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.05)


@pytest.mark.parametrize(("value", "is_stopped"), [(0.7, True), (0.85, False)])
def test_a_trial_below_the_median_of_the_others_is_stopped_and_a_better_one_trains_on(
    study: SweepStudy, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, value: float, is_stopped: bool
) -> None:
    monkeypatch.setattr(reporting, "INTERVAL", 0.1)
    trial = ask(study)
    with TrialWatch(trial, str(trial._trial_id), METRIC) as watch:
        training(study, trial, "safety", process, value)
        wait(lambda: bool(watch._reported))
        if is_stopped:
            wait(lambda: process.poll() is not None)
        else:
            time.sleep(0.5)
    assert (watch.stopped_at, process.poll() is not None) == ((4, True) if is_stopped else (None, False))
    reported = study.storage.get_trial(trial._trial_id).intermediate_values
    assert reported == {4: value}, "once, and never what is not a number"


def test_only_the_joint_training_reports(
    study: SweepStudy, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "INTERVAL", 0.1)
    trial = ask(study)
    with TrialWatch(trial, str(trial._trial_id), METRIC) as watch:
        training(study, trial, "evaluate", process, 0.1)
        time.sleep(1.0)
    assert watch.stopped_at is None and not watch._reported and process.poll() is None
