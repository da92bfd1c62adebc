"""What a pipeline or a suite has set out to do, stored before it begins: it is resumed by this, not by newer files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.queries.records import Record, artifact, nested, read
from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.runs.resuming import check_resumable
from drone_cbf.tracking.tags import PLAN_FILE, PROCESS_TAG
from drone_cbf.training.curriculum.schema import Curriculum, parse_curriculum
from projects.inputs.curriculum_files import load_curriculum
from projects.running.stage_runner import Stage

STORING = 120.0
"""Longest wait for a child that is storing its state [s]."""
CURRICULA = "curricula"
"""Part of a plan: place of each curriculum -> its content."""


def stored_plan(run_id: str) -> dict[str, Any] | None:
    """The plan of a run that is resumed; None for a new one."""
    content = artifact(run_id, PLAN_FILE)
    return None if content is None else json.loads(content)


def store_plan(stage: Stage, places: Sequence[str], content: Mapping[str, Any]) -> None:
    """Stores ``content``, and the curricula at ``places`` with it."""
    curricula = {place: load_curriculum(place).model_dump(mode="json") for place in places}
    stage.run.log_text(json.dumps({**content, CURRICULA: curricula}, indent=1), PLAN_FILE)


def planned_curriculum(plan: Mapping[str, Any], place: str) -> Curriculum:
    return parse_curriculum(plan[CURRICULA][place], f"{place} in {PLAN_FILE}")


def check_unchanged(plan: Mapping[str, Any], place: str) -> None:
    """ConfigError where the curriculum's file says something else than the plan, for a stage that is yet to read it."""
    if load_curriculum(place).comparable() != planned_curriculum(plan, place).comparable():
        raise ConfigError(
            f"curriculum {place} has changed since the interrupted run began; bring its file back "
            f"(its content is in {PLAN_FILE} of that run), or start a new run"
        )


def wait_for_end(earlier: Sequence[Record]) -> None:
    """Waits for children of an interrupted workflow that are still storing their state.

    Raises LineageError, which names the child, if one goes on for too long.
    """
    deadline = time.monotonic() + STORING
    for run in earlier:
        while run.status == "RUNNING" and state_of(run.tags.get(PROCESS_TAG, "")) == "running":
            if time.monotonic() > deadline:
                check_resumable(run.run_id, run.stage)
            time.sleep(0.2)
            run = read(run.run_id)


def own_children(run_id: str) -> list[Record]:
    """The runs nested in ``run_id``, oldest first."""
    return nested(read(run_id))
