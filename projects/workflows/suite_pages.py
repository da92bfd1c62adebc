"""What a suite tells about its tasks: the plan, the page of its run, and what has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from projects.workflows.suite_tasks import Member, State, Task

STATES: dict[State, str] = {"planned": "to be trained", "interrupted": "to be resumed", "reused": "reused"}
STATES |= {"trained": "done", "resumed": "resumed and done", "failed": "FAILED", "left out": "left out"}
"""How each state is written."""
LONGEST_REASON = 300
"""Characters of a reason in a table or a message; the failed run holds the whole."""


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


def identity(task: Task) -> dict[str, object]:
    """Columns that say which task it is."""
    return {"stage": task.entry.name, "curriculum": task.curriculum, "seed": task.seed}


def _row(member: Member) -> dict[str, object]:
    run, task = member.run, member.task
    return {
        **identity(task),
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
