"""One of several processes that carry out the trials of a sweep.

It takes trial after trial until none is left. What it prints is stored with each trial as ``output.txt``. Interrupted,
it hands its trial back: a resumed sweep, or another worker, goes on with it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import mlflow
import optuna
from optuna.trial import TrialState

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.records import read
from drone_cbf.tracking.queries.selection import is_resumable
from drone_cbf.tracking.runs.nesting import inside
from drone_cbf.tracking.runs.stage_run import StageRun, failure_reason
from drone_cbf.tracking.studies.storage import SweepStudy
from projects.running.interruption import interruptible, uninterrupted
from projects.running.processes import INTERRUPTED
from projects.running.worker import prepare_for_children, stage_worker
from projects.sweeping.plan import SweepPlan, read_plan
from projects.sweeping.reporting import TrialWatch
from projects.sweeping.searching import distributions, studies
from projects.workflows.children import carry_out
from projects.workflows.plans import own_children, wait_for_end
from projects.workflows.suite_tasks import Member, Task, plan

TASK = "DRONE_CBF_SWEEP_TASK"
"""Environment variable that tells a worker its task, which it writes into the trials that it carries out."""


class Worker:
    """Carries out trials of the sweep's run; ``start``: the run that every trial starts from."""

    def __init__(self, run_id: str, start: str, output: Path) -> None:
        self.plan: SweepPlan = read_plan(run_id)
        self.start, self.output = start or None, output
        experiment = read(run_id).experiment_id
        self.study = SweepStudy(run_id, experiment, self.plan.settings.objective.direction)

    def work(self) -> None:
        """Trial after trial."""
        study_of, ranges = studies(self.plan, self.study), distributions(self.plan)
        while True:
            with uninterrupted():
                trial = self.study.next_trial(study_of, ranges, self.plan.parameters.trials, os.environ.get(TASK, ""))
            if trial is None:
                return
            self.perform(trial)

    def perform(self, trial: optuna.Trial) -> None:
        """Trains and evaluates one trial and tells the study how it ended; a failure is told, not raised."""
        begun = self.output.stat().st_size
        with inside(str(trial._trial_id), self.study.experiment_id, "trial") as run:
            try:
                with stage_worker(), TrialWatch(trial, run.run_id, self.plan.settings.reported) as watch:
                    failed = self._stages(run, trial)
                with uninterrupted():
                    self._tell(trial, failed, watch)
            except KeyboardInterrupt:
                self.study.hand_back(run.run_id)
                raise
            except Exception as error:
                self._fail(trial, failure_reason(error))
                if not isinstance(error, DroneCbfError):
                    raise
            finally:
                self._keep_output(run, begun)

    def _stages(self, run: StageRun, trial: optuna.Trial) -> Member | None:
        """Every stage in turn; the member that failed."""
        wait_for_end(own_children(run.run_id))
        before = self.start
        for task in self.plan.tasks.of_trial(trial.params):
            member = carry_out(run, task, before, self._planned(run, task, before))
            if member.state == "failed":
                return member
            assert member.run is not None
            before = member.run.run_id
            trial.set_user_attr("evaluation" if task.entry.name == "evaluate" else "training", before)
        return None

    def _planned(self, run: StageRun, task: Task, before: str | None) -> Member:
        """Of runs that were interrupted only the trial's own are gone on with: two trials may be given the same."""
        planned = plan(task, before, None)
        own = {child.run_id for child in own_children(run.run_id)}
        if planned.state == "interrupted" and planned.run and planned.run.run_id not in own:
            return plan(task, before, own)
        return planned

    def _tell(self, trial: optuna.Trial, failed: Member | None, watch: TrialWatch) -> None:
        """Whether it was stopped, lost, failed, or what it has reached."""
        if failed is not None and watch.stopped_at is not None:
            trial.set_user_attr("stopped_at", watch.stopped_at)
            self._end(trial, TrialState.PRUNED)
        elif failed is not None:
            if failed.run is not None and is_resumable(failed.run):  # its own process was ended from outside
                self.study.lose(str(trial._trial_id), trial.user_attrs.get("lost", 0))
            else:
                self._fail(trial, f"{failed.task.entry.name}: {failed.reason}")
        else:
            self._complete(trial)

    def _complete(self, trial: optuna.Trial) -> None:
        metric, evaluation = self.plan.settings.objective.metric, trial.user_attrs["evaluation"]
        value = read(evaluation).metrics.get(metric)
        if value is None or not math.isfinite(value):
            self._fail(trial, f"{metric} of evaluation {evaluation} is {value}; name another objective, or look there")
            return
        self._end(trial, TrialState.COMPLETE, value)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        print(f"trial {trial.number} FAILED: {reason}", flush=True)
        trial.set_user_attr("reason", reason[:1000])
        self._end(trial, TrialState.FAIL)

    def _end(self, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
        self.study.open().tell(trial, value, state=state)

    def _keep_output(self, run: StageRun, begun: int) -> None:
        with self.output.open("rb") as file:
            file.seek(begun)
            run.log_text(file.read().decode(errors="replace"), "output.txt")


def main(run_id: str, start: str, output: str) -> int:
    """Carries out trials until none is left; the exit code."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    prepare_for_children()
    with interruptible():
        try:
            Worker(run_id, start, Path(output)).work()
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0
