"""Mutual exclusion of processes that share nothing but a store: a short section, guarded by tags.

Each process writes a claim of its own, then reads all. It enters where it sees no other. Where it sees one it waits, or
takes its own back if that one comes first by name, and tries again. Of two processes the later to write sees the
other's claim, so both never enter; of several that wait, the first by name stays.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs.processes import process_name, state_of

PREFIX = "drone_cbf.claim."
TIMEOUT = 60.0  # Longest wait for a claim of another process [s]; a section takes a few calls to the store
_PAUSE = 0.05  # Between two looks [s]


@dataclass(frozen=True)
class Tags:
    """Tags of a run or of a registered model."""

    read: Callable[[], Mapping[str, str]]
    write: Callable[[str, str], object]
    delete: Callable[[str], object]


def run_tags(run_id: str) -> Tags:
    client = MlflowClient()

    def delete(name: str) -> None:
        with suppress(MlflowException):  # it is gone already
            client.delete_tag(run_id, name)

    return Tags(lambda: client.get_run(run_id).data.tags, lambda name, text: client.set_tag(run_id, name, text), delete)


def model_tags(model: str) -> Tags:
    """Those of a registered model."""
    client = MlflowClient()

    def delete(name: str) -> None:
        with suppress(MlflowException):
            client.delete_registered_model_tag(model, name)

    def write(name: str, text: str) -> None:
        client.set_registered_model_tag(model, name, text)

    return Tags(lambda: client.get_registered_model(model).tags, write, delete)


@contextmanager
def exclusive(tags: Tags, what: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """One process at a time; DroneCbfError, which calls the section ``what``, if another holds it for too long.

    The claim of a process of this host that is gone does not count, and is removed.
    """
    mine, deadline = f"{PREFIX}{uuid.uuid4().hex}", time.monotonic() + timeout
    tags.write(mine, process_name())
    try:
        while others := _others(tags, mine):
            if time.monotonic() > deadline:
                name, process = next(iter(others.items()))
                remedy = f"wait for it, or, if it has died, delete the tag {name}"
                raise DroneCbfError(f"{what} is held by {process}; {remedy}")
            if min(others) < mine:
                tags.delete(mine)
                time.sleep(random.uniform(_PAUSE, 4.0 * _PAUSE))
                tags.write(mine, process_name())
            else:
                time.sleep(_PAUSE)
        yield
    finally:
        tags.delete(mine)


def _others(tags: Tags, mine: str) -> dict[str, str]:
    """The claims of other processes, but those that are gone."""
    found = {name: text for name, text in tags.read().items() if name.startswith(PREFIX) and name != mine}
    for name in [name for name, process in found.items() if state_of(process) == "gone"]:
        tags.delete(name)
        del found[name]
    return found
