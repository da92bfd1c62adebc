"""Entry point ``suite``: every curriculum with every seed, trained, evaluated and compared, as children of one run."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.selection import Evaluated
from projects.comparison.comparison import compare
from projects.running.stage_runner import Outcome, Stage, own_interpreter_first
from projects.workflows.suite_children import Children, failures, plan_text, store_members, suite_page
from projects.workflows.suite_tasks import DONE, Member, plan, suite_tasks, walk


class SuiteIncomplete(DroneCbfError):
    """Some children failed; the others are there."""


def work(stage: Stage) -> Outcome:
    tasks = suite_tasks(stage.parameters, stage.given_system)
    start = stage.parent.run_id if stage.parent else None
    planned = walk(tasks, start, lambda task, parent: plan(task, parent, stage.parameters.reuse))
    print(plan_text(planned), flush=True)
    if stage.parameters.dry_run:
        stage.run.tag(dry_run="true")
        store_members(stage.run, planned)
        return Outcome(f"### Plan (dry run: nothing was trained)\n\n{suite_page(planned)}")
    own_interpreter_first()
    children = Children(stage, len(tasks))
    members = walk(tasks, start, children.run)
    page = suite_page(members)
    pairs = evaluated_pairs(members)
    if pairs:
        page = f"{compare(stage, pairs, strict=True)}\n\n{page}"
    failed = failures(members)
    if failed:
        stage.run.describe(page)  # before the error: the figures of those that finished are not lost
        raise SuiteIncomplete(failed)
    return Outcome(page)


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
