"""The trials of a sweep as plain records, read from the store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from drone_cbf.documents import UnreadableError, parse_json
from drone_cbf.tracking.queries.records import Record, search
from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.tags import NESTED_TAG

State = Literal["waiting", "under way", "done", "pruned", "failed"]
STATES: dict[str, State] = {"SCHEDULED": "waiting", "RUNNING": "under way", "FINISHED": "done", "KILLED": "pruned"}
STATES |= {"FAILED": "failed"}
"""Status of a trial's run -> what it means for Optuna's storage in MLflow."""
DISTRIBUTIONS = "param_directions"
"""Tag of every trial, and of nothing else: the ranges of its values."""
ATTRIBUTE = "user_"
"""How the tags of a trial's own attributes begin; their values are JSON."""
VALUE, REPORTED = "value", "intermediate_value"
"""Metrics of a trial: what it has reached, and what it reported on its way."""


@dataclass(frozen=True)
class Trial:
    """One trial at the time of reading."""

    run_id: str
    experiment_id: str
    number: int
    state: State
    params: dict[str, str]
    """What the search has chosen."""
    value: float | None
    """The objective; None while it is unknown."""
    reported: float | None
    """The latest figure reported while it trained."""
    seconds: float | None
    attributes: dict[str, Any]
    """``worker``: the process that carries it out, ``task``: what it was started as; ``begun`` and ``lost``: how often;
    ``reason`` of a failure; ``training`` and ``evaluation``: IDs of its runs; ``stopped_at``: the step at which it was
    pruned."""

    @property
    def is_abandoned(self) -> bool:
        """Whether it says that it is under way although its process on this machine is gone, or never said its name."""
        return self.state == "under way" and state_of(self.attributes.get("worker", "")) in ("gone", "unknown")

    def was_elsewhere(self, task: str) -> bool:
        """Whether it says that it is under way, on another machine, by ``task``."""
        mine = bool(task) and self.attributes.get("task") == task
        return mine and self.state == "under way" and state_of(self.attributes.get("worker", "")) == "elsewhere"


def trial_query(sweep: str) -> str:
    """Finds the trials among the runs nested in ``sweep``."""
    return f"tags.`{NESTED_TAG}` = '{sweep}' and tags.`{DISTRIBUTIONS}` LIKE '%'"


def read_trials(sweep: str, experiment: str) -> list[Trial]:
    """All trials of the sweep's run, by number."""
    return sorted(map(_trial, search(trial_query(sweep), experiment)), key=lambda trial: trial.number)


def best_trial(trials: Sequence[Trial], direction: str) -> Trial | None:
    """The best that is done; the earliest of equals."""
    done = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    sign = -1.0 if direction == "maximize" else 1.0
    return min(done, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _trial(record: Record) -> Trial:
    return Trial(
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        number=int(record.tags.get("numbers", "-1")),
        state=STATES[record.status],
        params=record.params,
        value=record.metrics.get(VALUE) if record.status == "FINISHED" else None,  # a pruned one has its last report
        reported=record.metrics.get(REPORTED),
        seconds=record.seconds,
        attributes=_attributes(record.tags),
    )


def _attributes(tags: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in tags.items():
        if name.startswith(ATTRIBUTE):
            with suppress(UnreadableError):
                found[name.removeprefix(ATTRIBUTE)] = parse_json(text.encode())
    return found
