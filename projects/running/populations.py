"""Whether a command line asks for a population, which run of one a member builds on, and which one a run is in."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.errors import DroneCbfError, LineageError
from drone_cbf.tracking.queries.records import Record, nested, read
from drone_cbf.tracking.runs.tracking_store import require_store
from drone_cbf.tracking.tags import NESTED_TAG
from projects.cli.arguments import given_text, resume_request
from projects.running.entry_points import POPULATION, EntryPoint


def as_asked(entry: EntryPoint, arguments: Sequence[str]) -> EntryPoint:
    """The entry point, or the population of it that the command line begins or resumes."""
    if not entry.trains:
        return entry
    begun = bool(given_text(arguments, "seeds").strip(" ,"))
    return (
        entry.as_population() if begun or _is_population(resume_request(entry.parameters, arguments), entry) else entry
    )


def _is_population(run_id: str, entry: EntryPoint) -> bool:
    """Whether an interrupted run is a population of ``entry``; what is wrong with it is told when it is resumed."""
    if not run_id:
        return False
    try:
        require_store(f"resume_run {run_id}")
        run = read(run_id)
    except DroneCbfError:
        return False
    return run.stage == POPULATION and run.trains == entry.name


def parent_of_seed(run_id: str, seed: int) -> str:
    """The run that the member with ``seed`` builds on: of a population its member, else ``run_id`` itself.

    Raises:
        LineageError: the population has no finished member with that seed.
    """
    parent = read(run_id)
    if parent.stage != POPULATION:
        return run_id
    members = {
        run.seed: run.run_id for run in nested(parent) if run.status == "FINISHED" and run.stage == parent.trains
    }
    if seed not in members:
        there = ", ".join(map(str, sorted(members))) or "none"
        raise LineageError(
            f"population {run_id} has no finished {parent.trains} run of seed {seed} (finished: {there}); "
            "leave the seed out, or resume the population first"
        )
    return members[seed]


def population_above(run: Record) -> Record | None:
    """The population that ``run`` is a member of, if any."""
    above = run.tags.get(NESTED_TAG)
    if not above:
        return None
    try:
        found = read(above)
    except DroneCbfError:  # deleted: the member stays what it is
        return None
    return found if found.stage == POPULATION else None
