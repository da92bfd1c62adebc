"""Entry point ``suite``: every curriculum with every seed, trained, evaluated and compared, as children of one run.

Each task is reused, resumed or trained; a failure leaves out what builds on it, and the rest goes on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from drone_cbf.errors import DroneCbfError
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.selection import MEMBERS_FILE, Evaluated
from drone_cbf.tracking.runs.lineage import resolve_parent
from drone_cbf.tracking.runs.tracking_store import prepare_store, require_store
from projects.cli.arguments import mlflow_run
from projects.cli.stage_parameters import SuiteParameters
from projects.running.entry_points import ENTRY_POINTS
from projects.running.stage_runner import Outcome, Stage
from projects.running.worker import prepare_for_children
from projects.workflows.children import carry_out
from projects.workflows.plans import check_unchanged, own_children, store_plan, stored_plan, wait_for_end
from projects.workflows.suite_tasks import (
    DONE,
    TASKS,
    Member,
    State,
    Task,
    curricula_of,
    plan,
    suite_tasks,
    tasks_of,
    walk,
)

STATES: dict[State, str] = {"planned": "to be trained", "interrupted": "to be resumed", "reused": "reused"}
STATES |= {"trained": "done", "resumed": "resumed and done", "failed": "FAILED", "left out": "left out"}
"""How each state is written."""
LONGEST_REASON = 300
"""Characters of a reason in a table or a message; the failed run holds the whole."""


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
    start = stage.parent.run_id if stage.parent else None
    children = Children(stage, len(tasks))
    planned = walk(tasks, start, children.plan)
    print(plan_text(planned), flush=True)
    prepare_for_children()
    members = walk(tasks, start, children.run)
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


def preview(parameters: SuiteParameters, given_system: Mapping[str, str]) -> str:
    """What a suite would train, and which earlier runs it would reuse."""
    given = parameters.parent_run
    if given:
        require_store(f"parent_run {given}")
    prepare_store()
    parent = resolve_parent(given, ENTRY_POINTS["suite"].parents).run_id if given else None
    tasks = suite_tasks(parameters, given_system)
    return plan_text(walk(tasks, parent, lambda task, before: plan(task, before, None if parameters.reuse else set())))


class Children:
    """Carries out tasks as children of a suite's run."""

    def __init__(self, stage: Stage, total: int) -> None:
        self.stage, self.total = stage, total
        # Of earlier runs a suite that trains everything anew takes over its own alone.
        self.own = None if stage.parameters.reuse else {run.run_id for run in own_children(stage.run.run_id)}
        self.members: list[Member] = []
        self.started = time.monotonic()

    def plan(self, task: Task, parent_run: str | None) -> Member:
        return plan(task, parent_run, self.own)

    def run(self, task: Task, parent_run: str | None) -> Member:
        """Reuses, resumes or trains a task; a failure is recorded as a member, not raised."""
        planned = self.plan(task, parent_run)
        if planned.state == "reused":
            self._say(f"{task.title} is reused from run {planned.run and planned.run.run_id}")
            return self._keep(planned)
        interrupted = planned.run and planned.run.run_id
        self._say(f"{task.title} {f'resumes run {interrupted}' if interrupted else 'starts'}{self._remaining()}")
        member = carry_out(self.stage.run, task, parent_run, planned)
        if member.state == "failed":
            self._say(f"{task.title} FAILED: {member.reason}")
        return self._keep(member)

    def _keep(self, member: Member) -> Member:
        """Remembers it, and shows in the run's description how far the suite is."""
        self.members.append(member)
        rows = [
            {**_identity(one.task), "state": one.state, "run_id": one.run.run_id if one.run else None}
            for one in self.members
        ]
        # The runs that stand for the children, for ``compare`` and ``report``.
        self.stage.run.log_text(json.dumps({"members": rows}, indent=1), MEMBERS_FILE)
        self.stage.run.describe(f"### Under way: {len(self.members)} of {self.total}\n\n{suite_page(self.members)}")
        return member

    def _say(self, text: str) -> None:
        print(f"suite: {len(self.members) + 1} of {self.total}: {text}", flush=True)

    def _remaining(self) -> str:
        """About how long it takes yet, once something was trained."""
        trained = sum(member.state in ("trained", "resumed") for member in self.members)
        left = (self.total - len(self.members)) * (time.monotonic() - self.started) / max(trained, 1)
        return f" (about {left / 60.0:.0f} min to go)" if trained else ""


def plan_text(members: Sequence[Member]) -> str:
    """The plan for the terminal: one line per task, and how many are there already."""
    taken = sum(member.state == "reused" for member in members)
    lines = [f"suite: {len(members)} children, {taken} reused, {len(members) - taken} to be trained or resumed"]
    width = max(len(member.task.title) for member in members)
    for member in members:
        source = f" from run {member.run.run_id}" if member.run else ""
        lines.append(f"  {member.task.title.ljust(width)}  {STATES[member.state]}{source}")
    return "\n".join(lines)


def suite_page(members: Sequence[Member]) -> str:
    """Markdown: every task with its state, a link to the run that stands for it, and why it failed."""
    counts = Counter(member.state for member in members)
    told = ", ".join(f"{counts[state]} {text}" for state, text in STATES.items() if counts[state])
    commits = {member.run.commit[:10] for member in members if member.run and member.run.commit}
    notes = f"\n\nThe runs come from different commits of the code: {', '.join(sorted(commits))}."
    table = markdown_table([_row(member) for member in members])
    return f"### Children: {told}\n\n{table}{notes if len(commits) > 1 else ''}"


def _identity(task: Task) -> dict[str, object]:
    return {"stage": task.entry.name, "curriculum": task.curriculum, "seed": task.seed}


def _row(member: Member) -> dict[str, object]:
    run, task = member.run, member.task
    return {
        **_identity(task),
        "curriculum": task.curriculum or None,
        "state": STATES[member.state],
        "run": linked(run.run_id, run.experiment_id) if run else None,
        "seconds": round(run.seconds, 1) if run and run.seconds is not None else None,
        "commit": run.commit[:10] if run else None,
        "reason": member.reason[:LONGEST_REASON] or None,
    }


def failures(members: Sequence[Member]) -> str:
    """What failed and why, on one line with the remedy; empty where nothing did."""
    failed = [member for member in members if member.state == "failed"]
    if not failed:
        return ""
    runs = [f"run {member.run.run_id}" if member.run else "not started" for member in failed]
    told = [f"{one.task.title} ({run}): {one.reason[:LONGEST_REASON]}" for one, run in zip(failed, runs, strict=True)]
    left_out = sum(member.state == "left out" for member in members)
    rest = f", {left_out} left out" if left_out else ""
    remedy = "correct the cause and start the suite again: what has finished is reused"
    return f"{len(failed)} of {len(members)} children failed{rest}: {' | '.join(told)}; {remedy}"
