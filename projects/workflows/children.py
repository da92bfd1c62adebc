"""Carries out tasks as children of a run: what was interrupted goes on, a failure is a member, not an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drone_cbf.tracking.queries.records import Record, nested, read
from drone_cbf.tracking.runs.nesting import StageFailed, run_child
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.running.entry_points import POPULATION
from projects.running.stage_runner import ROOT
from projects.workflows.suite_tasks import Member, Task, task_of


@dataclass(frozen=True)
class Job:
    """What one child does: a task, or several that differ in their seed alone, as a population."""

    tasks: tuple[Task, ...]
    parent_run: str | None = None
    """ID of the run that they build on."""
    resumes: str = ""
    """ID of the interrupted run that goes on: the task's own, or a population that holds all of them."""

    @property
    def title(self) -> str:
        """For people, as name of the run as well."""
        first = self.tasks[0]
        if len(self.tasks) == 1:
            return first.title
        return " ".join(filter(None, (first.entry.name, first.curriculum, f"seeds {self._seeds}")))

    @property
    def parameters(self) -> dict[str, str]:
        """What the entry point is given."""
        if self.resumes:  # its settings are its own
            return {"resume_run": self.resumes}
        given = dict(self.tasks[0].parameters)
        if len(self.tasks) > 1:
            del given["seed"]
            given["seeds"] = self._seeds
        return given | ({"parent_run": self.parent_run} if self.parent_run else {})

    @property
    def _seeds(self) -> str:
        return ",".join(str(task.seed) for task in self.tasks)

    def as_json(self) -> dict[str, Any]:
        """For a process that carries it out."""
        own = {"parent_run": self.parent_run, "resumes": self.resumes}
        return {"tasks": [task.as_json() for task in self.tasks], **own}


def job_of(content: Mapping[str, Any]) -> Job:
    """The job from what :meth:`Job.as_json` returned."""
    return Job(**{**content, "tasks": tuple(map(task_of, content["tasks"]))})


def carry_out(run: StageRun, task: Task, parent_run: str | None, planned: Member) -> Member:
    """Resumes or trains ``task`` as ``planned``; a finished one is the member already."""
    if planned.state == "reused":
        return planned
    (member,) = carry_out_job(run, Job((task,), parent_run, planned.run.run_id if planned.run else ""))
    return member


def carry_out_job(run: StageRun, job: Job) -> list[Member]:
    """Resumes or trains the tasks of ``job`` in one child of ``run``; what became of each."""
    return members_of(job, *start_child(run, job))


def start_child(run: StageRun, job: Job) -> tuple[str, str]:
    """Runs ``job`` as a child of ``run`` until it has ended; its run (empty: it could not start), and why it failed."""
    try:
        return run_child(run, ROOT, job.tasks[0].entry.name, job.parameters, job.title).run_id, ""
    except StageFailed as error:
        return job.resumes or error.run_id or "", error.reason


def members_of(job: Job, child: str, reason: str) -> list[Member]:
    """What became of the tasks of ``job``, by the run ``child`` that has ended (empty: none could start)."""
    run = read(child) if child else None
    if run is not None and run.stage == POPULATION:
        own = {one.seed: one for one in nested(run) if one.stage == run.trains}  # the newest counts
        return [_member(job, task, own.get(task.seed or 0), run.failure or reason) for task in job.tasks]
    return [_member(job, task, run, reason) for task in job.tasks]


def _member(job: Job, task: Task, run: Record | None, reason: str) -> Member:
    if run is None or run.status != "FINISHED":
        return Member(task, "failed", run, (run.failure if run else "") or reason)
    return Member(task, "resumed" if job.resumes else "trained", run)
