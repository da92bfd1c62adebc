"""Carries out the tasks of a suite in several processes: each as soon as what it builds on is there.

A process carries out one child and ends. One that is lost is replaced: the child goes on from its checkpoint.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType

from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.records import Record, nested, read
from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.runs.starting import GIVEN
from drone_cbf.tracking.runs.tracking_store import store_place
from drone_cbf.tracking.tags import PROCESS_TAG
from projects.running.entry_points import POPULATION
from projects.running.interruption import uninterrupted
from projects.running.processes import Begin, WorkerProcess
from projects.workflows.children import Job, members_of
from projects.workflows.plans import STORING, own_children
from projects.workflows.start_child import child_named
from projects.workflows.suite_children import Children
from projects.workflows.suite_tasks import DONE, Member, Task

MOST_LOSSES = 3
"""A task fails when its process is lost for this time: it may be what ends them."""
INTERVAL = 1.0
"""Between two looks at the processes [s]."""


@dataclass(frozen=True)
class Running:
    """A job and the process that carries it out."""

    job: Job
    process: WorkerProcess


class SideBySide:
    """At most ``count`` processes at a time; leaving the block ends those that are left."""

    def __init__(self, children: Children, start: str | None, begin: Begin, count: int) -> None:
        self._children, self._start, self._begin, self._count = children, start, begin, count
        self._members: dict[int, Member] = {}
        """By place in the suite."""
        self._running: list[Running] = []
        self._losses: Counter[str] = Counter()

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for one in self._running:
            one.process.terminate()
        for one in self._running:
            one.process.wait()

    def carry_out_all(self) -> list[Member]:
        """What became of every task, in the order of the suite."""
        total = len(self._children.tasks)
        while True:
            with uninterrupted():
                for one in [one for one in self._running if one.process.poll() is not None]:
                    self._end(one)
                self._start_what_is_ready()
            if len(self._members) == total:
                return [self._members[place] for place in range(total)]
            time.sleep(INTERVAL)

    def _start_what_is_ready(self) -> None:
        for place, task in enumerate(self._children.tasks):
            before = self._members.get(task.after) if task.after is not None else None
            if place in self._members or self._is_running(task) or (task.after is not None and before is None):
                continue
            if before and before.state not in DONE:
                reason = f"{before.task.title} failed"
                self._members[place] = Member(task, "left out", reason=reason)
            elif len(self._running) < self._count:
                self._start_one(task, before.run.run_id if before and before.run else self._start)

    def _start_one(self, task: Task, parent_run: str | None) -> None:
        planned = self._children.plan(task, parent_run)
        if planned.state == "reused":
            self._keep(planned)
            return
        job = self._children.job(task, parent_run)
        self._children.announce(job)
        run_id = self._children.stage.run.run_id
        # By the run that it names the process knows to whom it belongs.
        settings = {GIVEN: run_id, "MLFLOW_TRACKING_URI": store_place()}
        self._running.append(Running(job, self._begin([run_id, json.dumps(job.as_json())], settings)))

    def _end(self, one: Running) -> None:
        """Notes what a process has done that has ended, or that it was lost."""
        self._running.remove(one)
        said = one.process.said()
        if one.process.poll() == 0:
            for member in members_of(one.job, child_named(said), said):
                self._keep(member)
            return
        print(f"suite: {one.process.name}, which carried out {one.job.title}, was lost", flush=True)
        settle(self._children.stage.run.run_id, one.job)
        for task in one.job.tasks:
            self._losses[task.title] += 1
            if self._losses[task.title] >= MOST_LOSSES:
                reason = f"its process was lost {MOST_LOSSES} times; the last one said: {said}"
                self._keep(Member(task, "failed", reason=reason))

    def _keep(self, member: Member) -> None:
        place = next(place for place, task in enumerate(self._children.tasks) if task is member.task)
        self._members[place] = self._children.keep(member)

    def _is_running(self, task: Task) -> bool:
        return any(task is other for one in self._running for other in one.job.tasks)


def settle(suite: str, job: Job) -> None:
    """Waits until the runs of a ``job`` whose process was lost have stored their state.

    A stage that outlives the process that watched it does so within seconds. One on another machine that does not was
    lost with it: its run is marked KILLED, so that it can be gone on with.
    """
    deadline = time.monotonic() + STORING
    while under_way := [run for run in _runs(suite, job) if run.status == "RUNNING"]:
        states = {run.run_id: state_of(run.tags.get(PROCESS_TAG, "")) for run in under_way}
        if not {"running", "elsewhere"} & set(states.values()):
            return
        if time.monotonic() > deadline:
            for run_id, state in states.items():
                if state == "elsewhere":
                    MlflowClient().set_terminated(run_id, "KILLED")
            return
        time.sleep(INTERVAL)


def _runs(suite: str, job: Job) -> list[Record]:
    """The child that carries out ``job``, with the members of a population."""
    found = [run for run in own_children(suite) if run.name == job.title]
    if job.resumes:
        found.append(read(job.resumes))
    return [*found, *(member for run in found if run.stage == POPULATION for member in nested(run))]
