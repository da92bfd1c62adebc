"""Which tasks of a suite are carried out at once: the seeds of one curriculum, as a population."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.queries.records import Record
from drone_cbf.tracking.runs.resuming import check_resumable
from projects.running.entry_points import POPULATION
from projects.running.populations import population_above
from projects.workflows.children import Job
from projects.workflows.plans import stored_plan
from projects.workflows.population import MEMBERS
from projects.workflows.suite_tasks import Member, Task

LARGEST = 8
"""Most seeds at once: memory grows with each, and the gain was measured up to here (docs/scaling.md)."""


def are_mates(one: Task, other: Task) -> bool:
    """Whether they differ in their seed alone, so that their programs have equal shapes."""
    return one.entry.trains and _without_seed(one) == _without_seed(other)


def next_job(task: Task, parent_run: str | None, mates: Sequence[Task], plan: Callable[[Task], Member]) -> Job:
    """The job that carries out ``task``, together with those of its ``mates`` that are to be trained as well.

    ``mates``: tasks that :func:`are_mates`, ``task`` among them; ``plan``: what would become of one. An interrupted
    population goes on as a whole, where nothing else than ``mates`` is in it.
    """
    planned = {mate.seed: (mate, plan(mate)) for mate in mates}
    for _, member in planned.values():
        above = population_above(member.run) if member.state == "interrupted" and member.run else None
        if above and (seeds := _seeds_to_go_on(above)) and task.seed in seeds and seeds <= planned.keys():
            rest = [mate for seed, (mate, one) in planned.items() if seed in seeds and one.state != "reused"]
            return Job(tuple(rest), parent_run, above.run_id)
    own = planned[task.seed][1]
    if own.state == "interrupted" and own.run:
        return Job((task,), parent_run, own.run.run_id)
    fresh = [mate for mate, one in planned.values() if one.state == "planned"]
    parts = -(-len(fresh) // LARGEST)
    size = -(-len(fresh) // parts)  # of nine seeds five and four, not eight and one
    first = fresh.index(task) // size * size
    return Job(tuple(fresh[first : first + size]), parent_run)


def _seeds_to_go_on(population: Record) -> set[int | None]:
    """The seeds of a population that can be resumed; none if it cannot."""
    try:
        check_resumable(population.run_id, POPULATION)
    except DroneCbfError:
        return set()
    return {int(seed) for seed in (stored_plan(population.run_id) or {}).get(MEMBERS, {})}


def _without_seed(task: Task) -> tuple[object, ...]:
    given = {name: text for name, text in task.parameters.items() if name != "seed"}
    return task.entry.name, task.curriculum, task.after, given
