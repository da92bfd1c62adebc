"""Entry point ``sweep``: a search for good settings; each trial trains and evaluates through the ordinary stages."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.selection import MEMBERS_FILE
from drone_cbf.tracking.runs.lineage import resolve_parent
from drone_cbf.tracking.runs.store_trouble import store_trouble
from drone_cbf.tracking.runs.tracking_store import prepare_store, require_store
from drone_cbf.tracking.studies.trials import Trial, read_trials
from projects.cli.arguments import mlflow_run
from projects.cli.sweep_parameters import SweepParameters
from projects.running.entry_points import ENTRY_POINTS
from projects.running.interruption import uninterrupted
from projects.running.processes import process_starter
from projects.running.stage_runner import Outcome, Stage
from projects.running.worker import prepare_for_children
from projects.sweeping.plan import SweepPlan, new_plan, plan_of, require_optuna
from projects.sweeping.progress import Progress
from projects.sweeping.tables import plan_text, sweep_page
from projects.workflows.children import carry_out
from projects.workflows.plans import STORING, own_children, wait_for_end
from projects.workflows.suite_tasks import plan as planned_member

if TYPE_CHECKING:
    from projects.sweeping.workers import Workers

WORKER = "projects.sweeping.start_worker"
"""Module of a worker."""
INTERVAL = 1.0
"""Between two looks at the trials [s]."""
MOST_TROUBLES = 10
"""Looks in a row at which the store may be busy."""


class SweepFailed(DroneCbfError):
    """Nothing can be learned from the trials, or what they share could not be trained."""


def work(stage: Stage) -> Outcome:
    require_optuna()
    from projects.sweeping.conclusion import conclude  # Optuna and matplotlib, which a dry run does without

    plan = plan_of(stage)
    prepare_for_children()
    start = shared_run(stage, plan)
    trials = carry_out_trials(stage, plan, start)
    if not any(trial.state == "done" for trial in trials):
        reasons = {str(trial.attributes["reason"]) for trial in trials if "reason" in trial.attributes}
        told = " | ".join(sorted(reasons)[:3]) or "all were stopped early"
        raise SweepFailed(f"none of {len(trials)} trials is done: {told}; correct the cause and start a new sweep")
    return conclude(stage, plan, trials)


def preview(parameters: SweepParameters, given_system: Mapping[str, str]) -> str:
    """What a sweep would search and train; everything is checked."""
    parent = parameters.parent_run
    if parent:
        require_store(f"parent_run {parent}")
    prepare_store()
    found = resolve_parent(parent, ENTRY_POINTS["sweep"].parents).run_id if parent else None
    plan = new_plan(parameters, given_system)
    plan.tasks.check(found)
    return plan_text(plan)


def shared_run(stage: Stage, plan: SweepPlan) -> str:
    """The run that every trial starts from, trained where it does not exist yet; empty for none.

    Raises:
        SweepFailed: a stage that the trials share has failed.
    """
    if stage.parent:
        return stage.parent.run_id
    wait_for_end(own_children(stage.run.run_id))
    before = None
    for task in plan.tasks.shared():
        planned = planned_member(task, before, None)
        begins = "is there already" if planned.state == "reused" else "starts"
        print(f"sweep: {task.title}, for all trials: {begins}", flush=True)
        member = carry_out(stage.run, task, before, planned)
        if member.state == "failed" or member.run is None:
            error = SweepFailed(f"{task.title}, which all trials share, failed: {member.reason}")
            error.add_note(f"Correct the cause, then go on with: {resumption(stage)}")
            raise error
        before = member.run.run_id
    return before or ""


def carry_out_trials(stage: Stage, plan: SweepPlan, start: str) -> list[Trial]:
    """Starts the workers and waits until no trial is left; all trials."""
    from drone_cbf.tracking.studies.storage import SweepStudy
    from projects.sweeping.workers import Workers

    run = stage.run
    study = SweepStudy(run.run_id, run.experiment_id, plan.settings.objective.direction)
    wait_for_workers(stage)
    study.release_abandoned(is_their_fault=False)
    progress = Progress(plan)
    progress.begin(read_trials(run.run_id, run.experiment_id))
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        begin = process_starter(WORKER, plan.parameters.cluster, plan.parameters.workers, Path(folder))
        with Workers(study, start, begin, plan.parameters.workers) as workers:
            return watch(stage, plan, workers, progress)


def watch(stage: Stage, plan: SweepPlan, workers: Workers, progress: Progress) -> list[Trial]:
    """Looks at the trials until no worker is left; a store that is busy now and then ends nothing."""
    troubles = 0
    while True:
        time.sleep(INTERVAL)
        try:
            with uninterrupted():
                is_left = workers.tend()
                trials = read_trials(stage.run.run_id, stage.run.experiment_id)
                if progress.show(trials) or not is_left:
                    keep(stage, plan, trials)
        except Exception as error:
            trouble, troubles = store_trouble(error), troubles + 1
            if not trouble or troubles > MOST_TROUBLES:
                raise
            print(f"sweep: the trials could not be read ({trouble}); once more", flush=True)
            continue
        troubles = 0
        if not is_left:
            return trials


def wait_for_workers(stage: Stage) -> None:
    """Waits for workers of an interrupted sweep that still store the state of their trials.

    Raises:
        DroneCbfError: one goes on for too long; names it.
    """
    deadline = time.monotonic() + STORING
    while True:
        trials = read_trials(stage.run.run_id, stage.run.experiment_id)
        busy = [trial for trial in trials if trial.state == "under way" and not trial.is_abandoned]
        if not busy:
            return
        if time.monotonic() > deadline:
            worker = busy[0].attributes.get("worker")
            raise DroneCbfError(f"trial {busy[0].number + 1} is still carried out by {worker}; wait for it, or end it")
        time.sleep(INTERVAL)


def keep(stage: Stage, plan: SweepPlan, trials: list[Trial]) -> None:
    """Shows in the run's description how far the sweep is, and names the runs that ``compare`` and ``report`` read."""
    found = [trial.attributes.get(part) for trial in trials for part in ("training", "evaluation")]
    members = [{"run_id": run_id} for run_id in found if run_id]
    stage.run.log_text(json.dumps({"members": members}, indent=1), MEMBERS_FILE)
    stage.run.describe(sweep_page(plan, trials))


def resumption(stage: Stage) -> str:
    return mlflow_run("sweep", {"resume_run": stage.run.run_id})
