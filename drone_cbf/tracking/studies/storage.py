"""Optuna's study in the runs of a sweep: the sweep's run is the study, the runs nested in it are its trials.

MLflow's own storage makes a run of its own for the study and takes every run nested in it for a trial. Here the study
is the run that exists, and only runs with ranges are trials. What has ended is read once, not every time.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import optuna
from mlflow.optuna.storage import MlflowStorage
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from drone_cbf.tracking.runs.claims import exclusive, run_tags
from drone_cbf.tracking.runs.processes import process_name
from drone_cbf.tracking.studies.trials import read_trials, trial_query

DIRECTION = "optuna.study_direction"
MOST_LOSSES = 3
"""A trial fails when its process is lost for this time: it may be what ends them."""
LOST = f"its process was lost {MOST_LOSSES} times; see its output"


class SweepStorage(MlflowStorage):
    """Keeps the study in the run ``study_name``, which exists."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(experiment_id)
        self._ended: dict[str, FrozenTrial] = {}

    def get_study_id_from_name(self, study_name: str) -> Any:
        return study_name

    def get_all_trials(
        self, study_id: Any, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self.flush_all_batches()
        runs = self._mlflow_client.search_runs([self._experiment_id], trial_query(study_id))
        for run in runs:
            if run.info.run_id not in self._ended and (trial := self.get_trial(run.info.run_id)).state.is_finished():
                self._ended[run.info.run_id] = trial
        found = [self._ended.get(run.info.run_id) or self.get_trial(run.info.run_id) for run in runs]
        return sorted((one for one in found if states is None or one.state in states), key=lambda one: one.number)

    def get_n_trials(self, study_id: Any, state: Any = None) -> int:
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def store(self, trial_id: Any) -> None:
        """Writes what waits; unlike the regular write it raises what goes wrong."""
        self._flush_batch(trial_id, raise_on_error=True)


Distributions = Mapping[str, optuna.distributions.BaseDistribution]


class SweepStudy:
    """The study of a sweep's run, for one process of several."""

    def __init__(self, run_id: str, experiment_id: str, direction: str) -> None:
        self.run_id, self.experiment_id = run_id, experiment_id
        client = MlflowClient()
        if DIRECTION not in client.get_run(run_id).data.tags:
            client.set_tag(run_id, DIRECTION, direction.upper())
        self.storage = SweepStorage(experiment_id)

    def open(self, **given: Any) -> optuna.Study:
        """``given``: sampler and pruner."""
        return optuna.Study(self.run_id, self.storage, **given)

    def next_trial(
        self, study_of: Any, distributions: Distributions, total: int, task: str = ""
    ) -> optuna.Trial | None:
        """The next of ``total`` trials for this process, a waiting one first; None where none is left.

        One process at a time: two would take the same trial, or one too many. ``study_of`` makes a study from the
        number of trials so far. ``task``: by which who has started this process knows it.
        """
        with exclusive(run_tags(self.run_id), f"the study of run {self.run_id}"):
            trials = self.storage.get_all_trials(self.run_id, deepcopy=False)
            waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
            if not waiting and len(trials) >= total:
                return None
            trial = study_of(len(trials)).ask(dict(distributions))
            trial.set_user_attr("worker", process_name())
            trial.set_user_attr("task", task)
            trial.set_user_attr("begun", trial.user_attrs.get("begun", 0) + 1)
            self.storage.store(trial._trial_id)
        MlflowClient().update_run(trial._trial_id, name=f"trial {trial.number}")
        return trial

    def release_abandoned(self, is_their_fault: bool = True, task: str = "") -> list[int]:
        """Hands back the trials whose process is gone; their numbers. One that is lost too often fails.

        ``is_their_fault``: False where the whole sweep was stopped. ``task``: that of a process known to be gone, which
        cannot be judged from here where it was one of another machine.
        """
        with exclusive(run_tags(self.run_id), f"the study of run {self.run_id}"):
            trials = read_trials(self.run_id, self.experiment_id)
            abandoned = [trial for trial in trials if trial.is_abandoned or trial.was_elsewhere(task)]
            for trial in abandoned:
                if is_their_fault:
                    self.lose(trial.run_id, trial.attributes.get("lost", 0))
                else:
                    self.hand_back(trial.run_id)
        return [trial.number for trial in abandoned]

    def lose(self, trial_id: str, before: int) -> None:
        """Its process was lost, as ``before`` times already: it is handed back, or fails."""
        self.storage.set_trial_user_attr(trial_id, "lost", before + 1)
        if before + 1 >= MOST_LOSSES:
            self.fail(trial_id, LOST)
        else:
            self.hand_back(trial_id)

    def hand_back(self, trial_id: str) -> None:
        """Another process, or a resumed sweep, goes on with the trial."""
        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def fail(self, trial_id: str, reason: str) -> None:
        self.storage.set_trial_user_attr(trial_id, "reason", reason)
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
