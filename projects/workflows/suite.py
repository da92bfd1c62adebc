"""Entry point ``suite``: every curriculum with every seed, trained, evaluated and compared, as children of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.selection import Evaluated
from drone_cbf.tracking.runs.lineage import resolve_parent
from drone_cbf.tracking.runs.tracking_store import prepare_store
from projects.cli.stage_parameters import SuiteParameters
from projects.running.children import prepare_for_children
from projects.running.entry_points import SUITE
from projects.running.stage_runner import Outcome, Stage
from projects.workflows.suite_children import Children, failures, plan_text, suite_page
from projects.workflows.suite_tasks import DONE, Member, plan, suite_tasks, walk


class SuiteIncomplete(DroneCbfError):
    """Some children failed; the others are there."""


def work(stage: Stage) -> Outcome:
    from projects.comparison.comparison import compare  # pandas and matplotlib, which a dry run does without

    tasks = suite_tasks(stage.parameters, stage.given_system)
    start = stage.parent.run_id if stage.parent else None
    planned = walk(tasks, start, lambda task, parent: plan(task, parent, stage.parameters.reuse))
    print(plan_text(planned), flush=True)
    prepare_for_children()
    children = Children(stage, len(tasks))
    try:
        members = walk(tasks, start, children.run)
    except KeyboardInterrupt as error:
        error.add_note("Finished children are kept: the same command resumes the suite.")
        raise
    page = suite_page(members)
    pairs = evaluated_pairs(members)
    if pairs:
        page = f"{compare(stage, pairs, strict=True)}\n\n{page}"
    failed = failures(members)
    if failed:
        stage.run.describe(page)  # before the error: the figures of those that finished are not lost
        raise SuiteIncomplete(failed)
    return Outcome(page)


def preview(parameters: SuiteParameters, given_system: Mapping[str, str]) -> str:
    """What a suite would train, and which earlier runs it would reuse."""
    prepare_store()
    parent = resolve_parent(parameters.parent_run, SUITE.parents).run_id if parameters.parent_run else None
    tasks = suite_tasks(parameters, given_system)
    return plan_text(walk(tasks, parent, lambda task, before: plan(task, before, parameters.reuse)))


def evaluated_pairs(members: Sequence[Member]) -> list[Evaluated]:
    """Of the members, the trained policies with their finished evaluations."""
    pairs = []
    for member in members:
        after, finished = member.task.after, member.state in DONE and member.task.entry.name == "evaluate"
        if finished and after is not None and member.run is not None:
            trained = members[after].run
            assert trained is not None, "an evaluation has its safety run"
            pairs.append(Evaluated(trained, member.run))
    return pairs
