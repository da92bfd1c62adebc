"""A search kept in the store's runs: nothing is lost between processes, and no trial is done twice."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from typing import Any

import mlflow
import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from drone_cbf.tracking.runs.nesting import inside
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.studies.storage import LOST, MOST_LOSSES, SweepStudy
from drone_cbf.tracking.studies.trials import best_trial, read_trials

RANGES = {
    "safety.learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "safety.batch": IntDistribution(1, 512, log=True),
    "filter.gradient": CategoricalDistribution(("full", "identity")),
}


@pytest.fixture
def sweep(experiment: str) -> str:
    """The run of a sweep, with something nested in it that is no trial."""
    client = MlflowClient()
    run_id = client.create_run(experiment, run_name="sweep").info.run_id
    client.create_run(experiment, tags={"mlflow.parentRunId": run_id}, run_name="resumption")
    return run_id


def kept(sweep: str, experiment: str) -> SweepStudy:
    return SweepStudy(sweep, experiment, "maximize")


def ask(study: SweepStudy, total: int, task: str = "") -> optuna.Trial | None:
    sampler = optuna.samplers.RandomSampler
    return study.next_trial(lambda number: study.open(sampler=sampler(number)), RANGES, total, task)


def objective(trial: optuna.Trial) -> float:
    """Best at a learning rate of 1e-3."""
    return -abs(float(trial.params["safety.learning_rate"]) - 1e-3)


def gone() -> str:
    """The name of a process that has ended."""
    process = subprocess.Popen(["sleep", "60"])
    name = process_name(process.pid)
    process.kill()
    process.wait()
    return name


def test_another_process_reads_values_reports_and_outcomes_as_they_were_told(sweep: str, experiment: str) -> None:
    first = kept(sweep, experiment)
    told: dict[int, dict[str, Any]] = {}
    for ending in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        trial = ask(first, 9)
        assert trial is not None
        for step in (4, 14):
            trial.report(0.1 * step, step)
        told[trial.number] = dict(trial.params)
        value = objective(trial) if ending == TrialState.COMPLETE else None
        first.open().tell(trial, value, state=ending)
    found = kept(sweep, experiment).open().get_trials()
    assert [trial.number for trial in found] == [0, 1, 2], "the run that is no trial is none"
    assert {trial.number: trial.params for trial in found} == told, "to the last bit"
    assert [trial.state for trial in found] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert all(trial.intermediate_values == {4: 0.4, 14: pytest.approx(1.4)} for trial in found)
    assert found[0].value == -abs(told[0]["safety.learning_rate"] - 1e-3)
    records = read_trials(sweep, experiment)
    assert [record.state for record in records] == ["done", "pruned", "failed"]
    assert [record.value for record in records] == [found[0].value, None, None]
    assert best_trial(records, "maximize") == records[0]
    assert float(records[0].params["safety.learning_rate"]) == told[0]["safety.learning_rate"]


def test_a_resumed_search_repeats_no_finished_trial_and_goes_on_with_the_one_that_was_under_way(
    sweep: str, experiment: str
) -> None:
    first = kept(sweep, experiment)
    done: Counter[int] = Counter()
    for _ in range(2):
        trial = ask(first, 4)
        assert trial is not None
        first.open().tell(trial, objective(trial))
        done[trial.number] += 1
    lost = ask(first, 4)
    assert lost is not None
    lost.set_user_attr("worker", gone())
    first.storage.store(lost._trial_id)
    before = [trial.params for trial in first.open().get_trials()]
    again = kept(sweep, experiment)
    assert again.release_abandoned() == [2]
    while (trial := ask(again, 4)) is not None:
        if trial.number == 2:
            assert trial.params == before[2] and trial.user_attrs["begun"] == 2
        again.open().tell(trial, objective(trial))
        done[trial.number] += 1
    assert done == {0: 1, 1: 1, 2: 1, 3: 1}
    after = again.open().get_trials()
    assert [trial.params for trial in after][:3] == before
    assert again.release_abandoned() == [] and ask(again, 4) is None


def test_two_workers_share_the_trials_without_one_too_many(sweep: str, experiment: str) -> None:
    taken: list[str] = []

    def work() -> None:
        study = kept(sweep, experiment)
        while (trial := ask(study, 5)) is not None:
            taken.append(str(trial._trial_id))
            study.open().tell(trial, objective(trial))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = read_trials(sweep, experiment)
    assert sorted(taken) == sorted(trial.run_id for trial in trials) and len(set(taken)) == 5
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]


def test_a_trial_whose_process_is_lost_again_and_again_fails(sweep: str, experiment: str) -> None:
    study = kept(sweep, experiment)
    for attempt in range(MOST_LOSSES):
        trial = ask(study, 1)
        assert trial is not None and trial.user_attrs["begun"] == attempt + 1
        trial.set_user_attr("worker", gone())
        study.storage.store(trial._trial_id)
        assert study.release_abandoned() == [0]
    (record,) = read_trials(sweep, experiment)
    assert record.state == "failed" and record.attributes["reason"] == LOST
    assert ask(study, 1) is None


def test_the_trial_of_a_process_that_runs_is_left_to_it(sweep: str, experiment: str) -> None:
    study = kept(sweep, experiment)
    assert ask(study, 1) is not None and study.release_abandoned() == []


def test_the_trial_of_another_machine_is_handed_on_only_with_the_task_that_was_lost(
    sweep: str, experiment: str
) -> None:
    study = kept(sweep, experiment)
    for task in ("first", "second"):
        trial = ask(study, 2, task)
        assert trial is not None
        trial.set_user_attr("worker", "process 7 on another-machine since boot-1-tick-2")
        study.storage.store(trial._trial_id)
    assert study.release_abandoned() == [] and study.release_abandoned(task="third") == []
    assert study.release_abandoned(task="second") == [1]
    assert [trial.state for trial in read_trials(sweep, experiment)] == ["under way", "waiting"]


@pytest.mark.parametrize("ending", ["told", "handed back"])
def test_what_is_run_inside_a_trial_is_nested_in_it_and_the_trial_keeps_its_status(
    sweep: str, experiment: str, ending: str
) -> None:
    study = kept(sweep, experiment)
    trial = ask(study, 1)
    assert trial is not None
    with inside(str(trial._trial_id), experiment, "trial") as run:
        with mlflow.start_run(nested=True) as child:
            pass
        study.open().tell(trial, 1.0) if ending == "told" else study.hand_back(run.run_id)
    assert MlflowClient().get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    assert mlflow.active_run() is None
    (record,) = read_trials(sweep, experiment)
    assert record.state == ("done" if ending == "told" else "waiting")
