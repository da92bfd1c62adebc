"""Ctrl-C and SIGTERM: the run is closed properly, and the terminal says how to resume it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.recording.progress_bar import ProgressRecorder
from drone_cbf.tracking.runs.resuming import PROGRESS, latest_progress
from projects.cli.arguments import as_command, parse
from projects.running.entry_points import EntryPoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt, once: a second one must not cut short how the run is closed.

    Ctrl-C in a terminal reaches a workflow and its child, and the workflow then ends the child with SIGTERM too.
    """

    def interrupt(number: int, frame: object) -> None:
        for name in SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    ours = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {name: signal.signal(name, interrupt) for name in ours}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def resume_hint(entry: EntryPoint, run_id: str | None, shown: ProgressRecorder, arguments: Sequence[str]) -> str:
    """Where the stage was interrupted, and the command that resumes or restarts it."""
    place = f" at step {shown.done} of {shown.total}" if shown.total else ""
    resumable = run_id if "resume_run" in entry.parameters.model_fields else None
    try:
        if resumable and (stored := latest_progress(resumable)):
            state = f"the state of step {stored.removeprefix(PROGRESS)} is stored; resume it with"
            return f"interrupted{place}; {state}: mlflow run . -e {entry.name} -P resume_run={run_id}"
        again = as_command(entry.name, parse(entry.name, entry.parameters, arguments, entry.system))
    except DroneCbfError as error:
        return f"interrupted{place} ({error})"
    return f"interrupted{place};{' no state is stored;' if resumable else ''} start it again with: {again}"
