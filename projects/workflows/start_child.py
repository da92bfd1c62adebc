"""Carries out one child of a suite: ``python -m projects.workflows.start_child <suite run> <job> <output file>``."""

from __future__ import annotations

import json
import os
import sys

import projects.running.parent  # noqa: F401  (first of all: the suite may be gone when all else is imported)

ENDED = "ended with run"
"""Before the last word that is printed: the ID of the child's run, or ``NONE``."""
NONE = "none"


def child_named(said: str) -> str:
    """The child's run ID, from the end of what the process printed; empty where none could start."""
    _, told, found = said.rpartition(f"{ENDED} ")
    return found.strip() if told and found.strip() != NONE else ""


def main(run_id: str, job: str, output: str) -> int:
    """Carries out the job; the exit code. ``output``: where all goes that is printed."""
    import mlflow

    from drone_cbf.tracking.queries.records import read
    from drone_cbf.tracking.runs.nesting import inside
    from projects.running.interruption import interruptible
    from projects.running.processes import INTERRUPTED
    from projects.running.worker import prepare_for_children
    from projects.workflows.children import job_of, start_child

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    prepare_for_children()
    with interruptible():
        try:
            with inside(run_id, read(run_id).experiment_id, "suite") as run:
                child, reason = start_child(run, job_of(json.loads(job)))
        except KeyboardInterrupt:
            return INTERRUPTED
    print(f"{reason} {ENDED} {child or NONE}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
