"""Carries out one task as a child of a run: what was interrupted goes on, a failure is a member, not an exception."""

from __future__ import annotations

from drone_cbf.tracking.queries.records import read
from drone_cbf.tracking.runs.nesting import StageFailed, run_child
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.running.stage_runner import ROOT
from projects.workflows.suite_tasks import Member, Task


def carry_out(run: StageRun, task: Task, parent_run: str | None, planned: Member) -> Member:
    """Resumes or trains ``task`` as ``planned``; a finished one is the member already."""
    if planned.state == "reused":
        return planned
    interrupted = planned.run and planned.run.run_id
    parameters = {**task.parameters, **({"parent_run": parent_run} if parent_run else {})}
    if interrupted:  # its settings are its own
        parameters = {"resume_run": interrupted}
    try:
        child = run_child(run, ROOT, task.entry.name, parameters, task.title)
    except StageFailed as error:
        run_id = interrupted or error.run_id
        found = read(run_id) if run_id else None
        return Member(task, "failed", found, (found and found.failure) or error.reason)
    return Member(task, "resumed" if interrupted else "trained", read(child.run_id))
