"""Entry point ``suite``: every curriculum with every seed, trained, evaluated and compared, as children of one run.

Each task is reused, resumed or trained; a failure leaves out what builds on it, and the rest goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.selection import Evaluated
from drone_cbf.tracking.runs.lineage import resolve_parent
from drone_cbf.tracking.runs.tracking_store import prepare_store, require_store
from projects.cli.arguments import mlflow_run
from projects.cli.stage_parameters import SuiteParameters
from projects.running.entry_points import ENTRY_POINTS
from projects.running.processes import process_starter
from projects.running.stage_runner import Outcome, Stage
from projects.running.worker import prepare_for_children
from projects.workflows.plans import check_unchanged, own_children, store_plan, stored_plan, wait_for_end
from projects.workflows.side_by_side import SideBySide
from projects.workflows.suite_children import Children
from projects.workflows.suite_pages import failures, plan_text, suite_page
from projects.workflows.suite_tasks import DONE, TASKS, Member, Task, curricula_of, plan, suite_tasks, tasks_of, walk

WORKER = "projects.workflows.start_child"
"""Module of a process that carries out one child."""


class SuiteIncomplete(DroneCbfError):
    """Some children failed; the others are there."""


def work(stage: Stage) -> Outcome:
    from projects.comparison.comparison import compare  # pandas and matplotlib, which a dry run does without

    stored = stored_plan(stage.run.run_id)
    tasks = suite_tasks(stage.parameters, stage.given_system) if stored is None else tasks_of(stored)
    if stored is None:
        store_plan(stage, curricula_of(tasks), {TASKS: [task.as_json() for task in tasks]})
    else:
        for place in curricula_of(tasks):  # by their content its children are found
            check_unchanged(stored, place)
    wait_for_end(own_children(stage.run.run_id))
    members = carry_out_all(stage, tasks)
    page = suite_page(members)
    pairs = [
        Evaluated(trained, member.run)
        for member in members
        if member.run and member.state in DONE and member.task.entry.name == "evaluate"
        if member.task.after is not None and (trained := members[member.task.after].run)
    ]
    if pairs:
        page = f"{compare(stage, pairs, strict=True)}\n\n{page}"
    if failed := failures(members):
        stage.run.describe(page)  # before the error: the figures of those that finished are not lost
        error = SuiteIncomplete(failed)
        error.add_note(f"To go on in this run: {mlflow_run('suite', {'resume_run': stage.run.run_id})}")
        raise error
    return Outcome(page)


def carry_out_all(stage: Stage, tasks: Sequence[Task]) -> list[Member]:
    """Carries out the tasks, in this process's order or by workers side by side; what became of each."""
    start = stage.parent.run_id if stage.parent else None
    children = Children(stage, tasks)
    print(plan_text(walk(tasks, start, children.plan)), flush=True)
    prepare_for_children()
    asked = stage.parameters
    if asked.cluster == "none" and asked.workers == 1:
        return walk(tasks, start, children.run)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        begin = process_starter(WORKER, asked.cluster, asked.workers, Path(folder))
        with SideBySide(children, start, begin, asked.workers) as workers:
            return workers.carry_out_all()


def preview(parameters: SuiteParameters, given_system: Mapping[str, str]) -> str:
    """What a suite would train, and which earlier runs it would reuse."""
    given = parameters.parent_run
    if given:
        require_store(f"parent_run {given}")
    prepare_store()
    parent = resolve_parent(given, ENTRY_POINTS["suite"].parents).run_id if given else None
    tasks = suite_tasks(parameters, given_system)
    return plan_text(walk(tasks, parent, lambda task, before: plan(task, before, None if parameters.reuse else set())))
