"""Seeds of one stage, trained at once by shared programs: each in a run of its own, nested in the population's.

A member is the run that its stage would have made by itself, with the same settings and digest: it can be built on,
compared, reused and resumed like any other. It is stored, rolled back and ended by itself; one that fails leaves the
others alone.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from rich.console import Console

from drone_cbf.errors import DroneCbfError
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.records import Record, read
from drone_cbf.tracking.recording.progress_bar import ProgressRecorder
from drone_cbf.tracking.runs.resuming import can_resume
from drone_cbf.tracking.runs.stage_run import failure_reason, stage_run
from drone_cbf.training.population import Population
from projects.cli.arguments import as_text, mlflow_run
from projects.running.entry_points import ENTRY_POINTS, EntryPoint
from projects.running.populations import parent_of_seed
from projects.running.stage_runner import ROOT, Outcome, Stage, clean_up, perform
from projects.workflows.plans import check_unchanged, own_children, store_plan, stored_plan, wait_for_end

MEMBERS = "members"
"""Part of the plan: seed -> what its run is given."""
NOT_PASSED_ON = ("seeds", "seed", "parent_run", "resume_run")
NEXT = {"efficiency": "pretrain_cbf", "pretrain_cbf": "safety"}
"""Stage -> the one that builds on it."""
FIGURES = ("success_rate", "collision_rate", "boundary_error_mean", "margin")
"""Figures of the end of a stage that the table of members shows, where the stage has them."""


class PopulationIncomplete(DroneCbfError):
    """Some members failed; the others are there."""


@dataclass(frozen=True)
class Member:
    """A lane of the population."""

    seed: int
    words: tuple[str, ...]
    """Its command line."""
    resumed: str = ""
    """Its interrupted run."""
    finished: str = ""
    """The run that has done it already."""


def work(stage: Stage) -> Outcome:
    entry = ENTRY_POINTS[read(stage.run.run_id).trains]
    plan = stored_plan(stage.run.run_id) or new_plan(stage)
    members = lanes(stage, entry, plan)
    population, work_of_stage = Population(len(members)), import_module(entry.work).work
    watched = next((member for member in members if not member.finished), None)

    def training(member: Member) -> None:
        shown = ProgressRecorder(None if member is watched else Console(file=io.StringIO()))
        needs = f"run {stage.run.run_id}"
        with stage_run(entry.name, ROOT, member.resumed, needs, stage.run.run_id) as run:
            perform(entry, work_of_stage, run, member.words, shown, population)
        clean_up(entry, run)

    ended = population.train([None if member.finished else partial(training, member) for member in members])
    return conclude(stage, entry, members, ended)


def new_plan(stage: Stage) -> dict[str, Any]:
    """What each member is given, stored before any begins."""
    parameters = stage.parameters
    fields = type(parameters).model_fields
    shared = {
        name: as_text(value)
        for name, value in parameters
        if name not in NOT_PASSED_ON and value != fields[name].default
    }
    given: dict[str, dict[str, str]] = {}
    for seed in parameters.seeds:
        parent = getattr(parameters, "parent_run", "")
        own = {"seed": str(seed)} | ({"parent_run": parent_of_seed(parent, seed)} if parent else {})
        given[str(seed)] = {**shared, **stage.given_system, **own}
    places = [parameters.curriculum] if "curriculum" in fields else []
    store_plan(stage, places, {MEMBERS: given})
    return stored_plan(stage.run.run_id) or {}


def lanes(stage: Stage, entry: EntryPoint, plan: Mapping[str, Any]) -> list[Member]:
    """The members in the order of the plan: those that have finished, go on where they were, or begin."""
    earlier = [run for run in own_children(stage.run.run_id) if run.stage == entry.name]
    wait_for_end(earlier)
    by_seed = {run.seed: read(run.run_id) for run in earlier}  # the newest counts
    found = []
    for text, given in plan[MEMBERS].items():
        seed, before = int(text), by_seed.get(int(text))
        words = tuple(f"--{name}={value}" for name, value in given.items())
        if before and before.status == "FINISHED":
            found.append(Member(seed, words, finished=before.run_id))
        elif before and can_resume(before.run_id, entry.name):
            found.append(Member(seed, (f"--resume_run={before.run_id}",), resumed=before.run_id))
        else:
            if "curriculum" in type(stage.parameters).model_fields:
                check_unchanged(plan, stage.parameters.curriculum)
            found.append(Member(seed, words))
    return found


def conclude(
    stage: Stage, entry: EntryPoint, members: Sequence[Member], ended: Sequence[BaseException | None]
) -> Outcome:
    """The table of members; PopulationIncomplete where some have failed."""
    runs = {run.seed: run for run in own_children(stage.run.run_id) if run.stage == entry.name}
    page = members_table(members, runs)
    if failed := {member.seed: error for member, error in zip(members, ended, strict=True) if error is not None}:
        for error in failed.values():
            if not isinstance(error, DroneCbfError):  # not foreseen: its origin helps
                traceback.print_exception(error)
        stage.run.describe(page)  # before the error: the figures of those that finished are not lost
        told = [
            f"seed {seed} (run {runs[seed].run_id if seed in runs else 'not started'}): {failure_reason(error)}"
            for seed, error in failed.items()
        ]
        raise PopulationIncomplete(
            f"{len(failed)} of {len(members)} members failed: {' | '.join(told)}; the others are kept: correct the "
            f"cause, then go on with {mlflow_run(entry.name, {'resume_run': stage.run.run_id})}"
        )
    seeds = ",".join(str(member.seed) for member in members)
    if entry.name in NEXT:
        following = [mlflow_run(NEXT[entry.name], {"parent_run": stage.run.run_id, "seeds": seeds})]
    else:
        following = [mlflow_run("evaluate", {"parent_run": runs[member.seed].run_id}) for member in members]
    return Outcome(page, following=tuple(following))


def members_table(members: Sequence[Member], runs: Mapping[int, Record]) -> str:
    """Markdown: one row per seed, with the figures of its end."""
    rows = []
    for member in members:
        run = runs.get(member.seed)
        figures = run.metrics if run else {}
        rows.append(
            {
                "seed": member.seed,
                "run": linked(run.run_id, run.experiment_id) if run else None,
                "status": run.status if run else None,
                **{name: figures[f"final/{name}"] for name in FIGURES if f"final/{name}" in figures},
            }
        )
    return f"### Members\n\n{markdown_table(rows)}"
