"""The children of a suite: what becomes of each task, which are trained at once, and how far the suite is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from drone_cbf.tracking.queries.records import nested
from drone_cbf.tracking.queries.selection import MEMBERS_FILE
from projects.running.entry_points import POPULATION
from projects.running.stage_runner import Stage
from projects.workflows.children import Job, carry_out_job
from projects.workflows.plans import own_children
from projects.workflows.seeds import are_mates, next_job
from projects.workflows.suite_pages import identity, suite_page
from projects.workflows.suite_tasks import Member, Task, curricula_of, plan


class Children:
    """Carries out tasks as children of a suite's run."""

    def __init__(self, stage: Stage, tasks: Sequence[Task]) -> None:
        self.stage, self.tasks = stage, list(tasks)
        # With more workers than curricula each seed is a job of its own, so that none stands idle.
        self.at_once = stage.parameters.population == "auto" and stage.parameters.workers <= len(curricula_of(tasks))
        self.members: list[Member] = []
        """In the order in which they ended."""
        self._ahead: list[Member] = []
        """Trained together with one whose turn it was."""
        self._started = time.monotonic()

    def plan(self, task: Task, parent_run: str | None) -> Member:
        """What would become of ``task``."""
        return plan(task, parent_run, None if self.stage.parameters.reuse else self._own())

    def job(self, task: Task, parent_run: str | None) -> Job:
        """What carries out ``task``, and others with it."""
        over = [member.task for member in self.members]
        mates = [one for one in self.tasks if self.at_once and are_mates(task, one)]
        left = [one for one in mates if not any(one is other for other in over)] or [task]
        return next_job(task, parent_run, left, lambda one: self.plan(one, parent_run))

    def run(self, task: Task, parent_run: str | None) -> Member:
        """Reuses, resumes or trains a task; a failure is recorded as a member, not raised."""
        if ahead := [member for member in self._ahead if member.task is task]:
            return self.keep(ahead[0])
        planned = self.plan(task, parent_run)
        if planned.state == "reused":
            return self.keep(planned)
        job = self.job(task, parent_run)
        self.announce(job)
        self._ahead += carry_out_job(self.stage.run, job)
        return self.run(task, parent_run)

    def keep(self, member: Member) -> Member:
        """Remembers it, tells it, and shows in the run's description how far the suite is."""
        if member.state == "reused":
            self.say(f"{member.task.title} is reused from run {member.run and member.run.run_id}")
        if member.state == "failed":
            self.say(f"{member.task.title} FAILED: {member.reason}")
        self.members.append(member)
        rows = [
            {**identity(one.task), "state": one.state, "run_id": one.run.run_id if one.run else None}
            for one in self.members
        ]
        # The runs that stand for the children, for ``compare`` and ``report``.
        self.stage.run.log_text(json.dumps({"members": rows}, indent=1), MEMBERS_FILE)
        done = f"{len(self.members)} of {len(self.tasks)}"
        self.stage.run.describe(f"### Under way: {done}\n\n{suite_page(self.members)}")
        return member

    def announce(self, job: Job) -> None:
        begins = f"resumes run {job.resumes}" if job.resumes else "starts"
        self.say(f"{job.title} {begins}{self._remaining()}")

    def say(self, text: str) -> None:
        print(f"suite: {len(self.members) + 1} of {len(self.tasks)}: {text}", flush=True)

    def _own(self) -> set[str]:
        """A suite that trains everything anew takes over its own runs alone."""
        own = own_children(self.stage.run.run_id)
        inside = [run for above in own if above.stage == POPULATION for run in nested(above)]
        return {run.run_id for run in (*own, *inside)}

    def _remaining(self) -> str:
        """About how long it takes yet, once something was trained."""
        trained = sum(member.state in ("trained", "resumed") for member in self.members)
        left = (len(self.tasks) - len(self.members)) * (time.monotonic() - self._started) / max(trained, 1)
        return f" (about {left / 60.0:.0f} min to go)" if trained else ""
