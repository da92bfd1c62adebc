"""How to go on with what was interrupted: for a stage that has just been, and for those whose process was killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs.abandoned import Run, mark_abandoned
from drone_cbf.tracking.runs.resuming import PROGRESS, can_resume, latest_progress
from drone_cbf.tracking.runs.stage_run import StageRun
from drone_cbf.tracking.tags import FAILURE_TAG, GROUPS, NESTED_TAG, STAGE_TAG, entry_of
from projects.cli.arguments import as_command, mlflow_run, parse
from projects.running.entry_points import EntryPoint


def resume_hint(entry: EntryPoint, run_id: str | None, place: str, arguments: Sequence[str]) -> str:
    """That the stage was interrupted, at ``place``, and the command that resumes or restarts it."""
    resumable = run_id if "resume_run" in entry.parameters.model_fields else None
    try:
        if resumable and can_resume(resumable, entry.name):
            state = "what has finished is kept"
            if entry.name not in GROUPS:
                state = f"the state of step {str(latest_progress(resumable)).removeprefix(PROGRESS)} is stored"
            return f"interrupted{place}; {state}; resume it with: {resume_command(entry.command, resumable)}"
        again = as_command(entry.command, parse(entry.command, entry.parameters, arguments, entry.system))
    except Exception as error:  # the store may be what has failed
        reason = str(error) if isinstance(error, DroneCbfError) else f"{type(error).__name__}: {error}"
        return f"interrupted{place} ({' '.join(reason.split())})"
    return f"interrupted{place};{' no state is stored;' if resumable else ''} start it again with: {again}"


def resume_command(entry: str, run_id: str) -> str:
    return mlflow_run(entry, {"resume_run": run_id})


def tell_abandoned(run: StageRun) -> None:
    """Ends the runs whose process is gone, and says how to go on with each. A child leaves this to its workflow."""
    try:
        lines = [] if run.has_tag(NESTED_TAG) else [*map(_told, mark_abandoned(run.run_id))]
    except Exception as error:  # no reason not to do the work
        lines = [f"runs that were interrupted could not be looked for ({' '.join(str(error).split())})"]
    for line in filter(None, lines):
        print(f"{run.stage}: {line}", file=sys.stderr, flush=True)


def _told(found: Run) -> str:
    """What became of the run and how to go on with it; empty for a child, which the run above it goes on with."""
    tags, run_id = found.data.tags, found.info.run_id
    if NESTED_TAG in tags:
        return ""
    stage, remedy = tags[STAGE_TAG], "nothing is stored to resume it from"
    if can_resume(run_id, stage):
        remedy = f"resume it with: {resume_command(entry_of(tags), run_id)}"
    return f"{stage} run {run_id} was {tags[FAILURE_TAG]}; {remedy}"
