"""Runs the tasks of a suite: reuses, resumes or trains each, continues after a failure, and reports progress."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.queries.records import read
from drone_cbf.tracking.queries.selection import MEMBERS_FILE
from drone_cbf.tracking.runs.nesting import StageFailed, run_child
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.running.stage_runner import ROOT, Stage
from projects.workflows.suite_tasks import Member, Task, plan

STATES = {
    "planned": "to be trained",
    "interrupted": "to be resumed",
    "reused": "reused",
    "trained": "done",
    "resumed": "resumed and done",
    "failed": "FAILED",
    "left out": "left out",
}
"""How each state is written."""
LONGEST_REASON = 300
"""Characters of a reason in a table or a message; the failed run holds the whole."""


class Children:
    """Carries out tasks as children of a suite's run."""

    def __init__(self, stage: Stage, total: int) -> None:
        self.stage, self.total = stage, total
        self.members: list[Member] = []
        self.started = time.monotonic()

    def run(self, task: Task, parent_run: str | None) -> Member:
        """Reuses, resumes or trains a task; a failure is recorded as a member, not raised."""
        planned = plan(task, parent_run, self.stage.parameters.reuse)
        if planned.state == "reused":
            self._say(f"{task.title} is reused from run {planned.run and planned.run.run_id}")
            return self._keep(planned)
        interrupted = planned.run and planned.run.run_id
        self._say(f"{task.title} {f'resumes run {interrupted}' if interrupted else 'starts'}{self._remaining()}")
        parameters = {**task.parameters, **({"parent_run": parent_run} if parent_run else {})}
        if interrupted:  # its settings are its own
            parameters = {"resume_run": interrupted}
        try:
            child = run_child(self.stage.run, ROOT, task.entry.name, parameters, task.title)
        except StageFailed as error:
            return self._keep(self._failed(task, interrupted or error.run_id, error.reason))
        return self._keep(Member(task, "resumed" if interrupted else "trained", read(child.run_id)))

    def _failed(self, task: Task, run_id: str | None, reason: str) -> Member:
        run = read(run_id) if run_id else None
        told = (run and run.failure) or reason
        self._say(f"{task.title} FAILED: {told}")
        return Member(task, "failed", run, told)

    def _keep(self, member: Member) -> Member:
        """Remembers it, and shows in the run's description how far the suite is."""
        self.members.append(member)
        store_members(self.stage.run, self.members)
        under_way = f"### Under way: {len(self.members)} of {self.total}\n\n"
        self.stage.run.describe(under_way + suite_page(self.members))
        return member

    def _say(self, text: str) -> None:
        print(f"suite: {len(self.members) + 1} of {self.total}: {text}", flush=True)

    def _remaining(self) -> str:
        """About how long it takes yet, once something was trained."""
        trained = [member for member in self.members if member.state in ("trained", "resumed")]
        if not trained:
            return ""
        left = (self.total - len(self.members)) * (time.monotonic() - self.started) / len(trained)
        return f" (about {left / 60.0:.0f} min to go)"


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
    rows = [_row(member) for member in members]
    counts = {state: sum(member.state == state for member in members) for state in STATES}
    told = ", ".join(f"{count} {STATES[state]}" for state, count in counts.items() if count)
    commits = {member.run.commit[:10] for member in members if member.run and member.run.commit}
    notes = f"\n\nThe runs come from different commits of the code: {', '.join(sorted(commits))}."
    return f"### Children: {told}\n\n{markdown_table(rows)}{notes if len(commits) > 1 else ''}"


def _row(member: Member) -> dict[str, object]:
    run, task = member.run, member.task
    return {
        "stage": task.entry.name,
        "curriculum": task.curriculum or None,
        "seed": task.seed,
        "state": STATES[member.state],
        "run": f"[{run.run_id}]({run_page(run.run_id, run.experiment_id)})" if run else None,
        "seconds": round(run.seconds, 1) if run and run.seconds is not None else None,
        "commit": run.commit[:10] if run else None,
        "reason": member.reason[:LONGEST_REASON] or None,
    }


def store_members(run: StageRun, members: Sequence[Member]) -> None:
    """Leaves the runs that stand for the suite's children for ``compare`` and ``report``."""
    rows = [
        {
            "stage": member.task.entry.name,
            "curriculum": member.task.curriculum,
            "seed": member.task.seed,
            "state": member.state,
            "run_id": member.run.run_id if member.run else None,
        }
        for member in members
    ]
    run.log_text(json.dumps({"members": rows}, indent=1), MEMBERS_FILE)


def failures(members: Sequence[Member]) -> str:
    """What failed and why, on one line with the remedy; empty where nothing did."""
    failed = [member for member in members if member.state == "failed"]
    if not failed:
        return ""
    told = [
        f"{member.task.title} ({f'run {member.run.run_id}' if member.run else 'not started'}): "
        f"{member.reason[:LONGEST_REASON]}"
        for member in failed
    ]
    left_out = sum(member.state == "left out" for member in members)
    rest = f", {left_out} left out" if left_out else ""
    remedy = "correct the cause and start the suite again: what has finished is reused"
    return f"{len(failed)} of {len(members)} children failed{rest}: {' | '.join(told)}; {remedy}"
