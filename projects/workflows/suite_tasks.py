"""What a suite consists of: its tasks in order, and the run that has done one of them already."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.queries.records import Record, same_settings, settings
from drone_cbf.tracking.queries.selection import is_resumable
from projects.cli.arguments import as_text, parse
from projects.cli.stage_parameters import SuiteParameters
from projects.inputs.curriculum_files import available, load_curriculum
from projects.inputs.curriculum_levels import blend_flown
from projects.inputs.digests import config_digest
from projects.running.entry_points import ENTRY_POINTS, EntryPoint

State = Literal["planned", "interrupted", "reused", "trained", "resumed", "failed", "left out"]
DONE: tuple[State, ...] = ("reused", "trained", "resumed")
"""States in which a task's run has finished."""
TASKS = "tasks"
"""Part of a suite's plan."""
UNKNOWN = "not-yet-trained"
"""Stands for the parent of a task while that is not trained: the rest of its parameters can be checked all the same."""


@dataclass(frozen=True)
class Task:
    """One child of a suite."""

    entry: EntryPoint
    parameters: Mapping[str, str]
    """As its command line gives them; the parent's run ID left out."""
    after: int | None = None
    """Place in the suite of the task that it builds on; None: on the suite's own parent, if any."""
    curriculum: str = ""
    seed: int | None = None
    """Of the policy that it trains or measures."""

    @property
    def title(self) -> str:
        """For people, as name of the run as well."""
        words = [self.entry.name, self.curriculum, f"seed {self.seed}" if self.seed is not None else ""]
        return " ".join(filter(None, words))

    def as_json(self) -> dict[str, Any]:
        """For the plan of the suite."""
        place = {"after": self.after, "curriculum": self.curriculum, "seed": self.seed}
        return {"entry": self.entry.name, "parameters": dict(self.parameters), **place}


@dataclass(frozen=True)
class Member:
    """A task, and what became of it."""

    task: Task
    state: State
    run: Record | None = None
    reason: str = ""
    """Why it failed or was left out."""


def suite_tasks(parameters: SuiteParameters, given_system: Mapping[str, str]) -> list[Task]:
    """The tasks, each after the one that it builds on; seeds outermost: a suite that is stopped is balanced.

    Raises:
        ConfigError: a curriculum does not exist, is not valid, or has the name of another one.
    """
    curricula = _curricula(parameters.curricula)
    given = {name: as_text(value) for name, value in parameters.model_dump(mode="json").items()}

    def pick(*names: str) -> dict[str, str]:
        return {name: given[name] for name in names}

    tasks: list[Task] = []

    def add(entry: str, given: Mapping[str, str], after: int | None, name: str, seed: int) -> None:
        tasks.append(Task(ENTRY_POINTS[entry], given, after, name, seed))

    system, start, shared = dict(given_system), None, {"seed": given["shared_seed"]}
    if not parameters.parent_run:
        first = {**system, **shared, **pick("batch", "horizon"), "steps": given["efficiency_steps"]}
        add("efficiency", first, None, "", parameters.shared_seed)
        add("pretrain_cbf", {**shared, "steps": given["pretrain_steps"]}, 0, "", parameters.shared_seed)
        system, start = {}, 1  # inherited from the efficiency run
    measured = pick("scenarios", "noise", "goals", "rollouts", "horizon")
    for seed in parameters.seeds:
        for name, place in curricula.items():
            own = {"curriculum": place, "seed": str(seed), **system, **pick("batch", "barrier_task_gradient")}
            add("safety", own, start, name, seed)
            flown = {**measured, "blend": blend_flown(parameters.blend, load_curriculum(place))}
            add("evaluate", flown, len(tasks) - 1, name, seed)
    return tasks


def tasks_of(plan: Mapping[str, Any]) -> list[Task]:
    """The tasks of a stored plan."""
    return [task_of(content) for content in plan[TASKS]]


def task_of(content: Mapping[str, Any]) -> Task:
    """The task from what :meth:`Task.as_json` returned."""
    return Task(**{**content, "entry": ENTRY_POINTS[content["entry"]]})


def curricula_of(tasks: Sequence[Task]) -> list[str]:
    """Where the curricula of the tasks lie, each once."""
    return list(dict.fromkeys(task.parameters["curriculum"] for task in tasks if "curriculum" in task.parameters))


def walk(tasks: Sequence[Task], start: str | None, child: Callable[[Task, str | None], Member]) -> list[Member]:
    """Hands every task with its parent's run ID (None: not trained yet) to ``child``, but those whose parent failed."""
    members: list[Member] = []
    for task in tasks:
        before = members[task.after] if task.after is not None else None
        if before is None:
            members.append(child(task, start))
        elif before.state in ("failed", "left out"):
            members.append(Member(task, "left out", reason=f"{before.task.title} failed"))
        else:
            members.append(child(task, before.run.run_id if before.run and before.state in DONE else None))
    return members


def plan(task: Task, parent_run: str | None, among: Container[str] | None) -> Member:
    """What would become of a task: reused from a finished run, resumed, or trained.

    ``among``: IDs of the runs that may be taken over; None: every run of the store.

    Raises:
        ConfigError: a value is refused by the task's own entry point.
    """
    found = earlier_runs(task, parent_run)  # checks the values in any case
    found = [run for run in found if among is None or run.run_id in among]
    if finished := [run for run in found if run.status == "FINISHED"]:
        return Member(task, "reused", finished[-1])
    resumable = "resume_run" in task.entry.parameters.model_fields
    interrupted = [run for run in found if resumable and is_resumable(run)]
    return Member(task, "interrupted", interrupted[-1]) if interrupted else Member(task, "planned")


def earlier_runs(task: Task, parent_run: str | None) -> list[Record]:
    """Runs in any experiment, the newest last, that were given what the task would be given now."""
    needs_parent = bool(task.entry.parents)
    named = {"parent_run": parent_run or UNKNOWN} if needs_parent else {}
    words = [f"--{name}={text}" for name, text in {**task.parameters, **named}.items()]
    given = parse(task.entry.name, task.entry.parameters, words)
    inherited: Any = settings(parent_run).get("system") if parent_run and needs_parent else None
    system = task.entry.system_of(given.parameters, inherited, given.system)
    if needs_parent and parent_run is None:
        return []
    digest = config_digest(task.entry.name, given.parameters, system)
    return [run for run in same_settings(digest) if run.stage == task.entry.name]


def _curricula(places: Sequence[str]) -> dict[str, str]:
    """Name of each curriculum -> name or absolute path to load it by."""
    found: dict[str, str] = {}
    for place in places:
        name = load_curriculum(place).name
        if name in found:
            raise ConfigError(
                f"curricula {found[name]} and {place} are both called '{name}'; give one of them another name: inside"
            )
        found[name] = place if place in available() else str(Path(place).resolve())  # children run in another folder
    return found
