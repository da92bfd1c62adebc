"""What ends a stage from outside, always in the same way: its state is stored, and its run says what happened.

Signals, a terminal that is closed, output that nobody reads any more, and the end of the ``mlflow run`` or the workflow
that the stage belongs to. Each raises KeyboardInterrupt in the main thread, once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from drone_cbf.tracking.runs.processes import start_of
from drone_cbf.tracking.runs.starting import GIVEN
from projects.running.parent import is_orphan

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLOSED = (errno.EPIPE, errno.EIO)
"""Errors of writing to a pipe that nobody reads, and to a terminal that is gone."""
LEAVING = 60.0
"""How long the threads of an interrupted process may take to end [s], once its main thread has."""
INTERVAL = 0.5
"""Between two looks at the processes that a stage belongs to [s]."""


class Leaving:
    """Ends an interrupted process whose threads do not end by themselves.

    KeyboardInterrupt may be raised anywhere, also between the start of a thread of a pool and its entry in the list of
    those that are told to end at exit: the process would wait for it for ever, when all is stored and said.
    """

    watched = interrupted = False

    @classmethod
    def watch(cls) -> None:
        """Begun before anything is interrupted: a signal handler must not start threads."""
        if not cls.watched:
            cls.watched = True
            threading.Thread(target=cls._end_in_time, name="leaving", daemon=True).start()

    @classmethod
    def _end_in_time(cls) -> None:
        threading.main_thread().join()
        if cls.interrupted:
            time.sleep(LEAVING)
            os._exit(128 + signal.SIGINT)


class Interruption:
    """Raises KeyboardInterrupt in the main thread at the first reason; later ones do not cut short how a run is closed.

    Ctrl-C in a terminal reaches a workflow and its child, and the workflow then ends the child with SIGTERM too.
    """

    def __init__(self) -> None:
        self._reason = ""

    def handle(self, number: int, frame: object) -> None:
        for name in SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        Leaving.interrupted = True
        raise KeyboardInterrupt(self._reason or signal.Signals(number).name)

    def because(self, reason: str) -> None:
        """From any thread."""
        self._reason = self._reason or reason
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the process can be interrupted as the module says; in a thread other than the main one it cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    Leaving.watch()
    interruption, over = Interruption(), threading.Event()
    # Where SIGHUP is ignored from the beginning, as by 'nohup', the stage is meant to outlive its terminal.
    ours = [name for name in SIGNALS if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN]
    before = {name: signal.signal(name, interruption.handle) for name in ours}
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Stream(stream, interruption) for stream in streams)
    watch = threading.Thread(target=_watch, args=(owners(), interruption, over), name="owners", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
        sys.stdout, sys.stderr = streams
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, what would interrupt the process waits until the end.

    For workflows that look into the store all the time: a call that is cut off may leave a sqlite file locked until the
    process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    handled = [name for name in SIGNALS if callable(signal.getsignal(name))]
    before = {name: signal.signal(name, lambda number, frame: asked.append(number)) for name in handled}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        if asked:
            os.kill(os.getpid(), asked[0])


class Stream:
    """A stream of output that interrupts the stage once nobody reads it any more, and from then on is silent."""

    def __init__(self, stream: Any, interruption: Interruption) -> None:
        self._stream, self._interruption = stream, interruption

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._watched():
            return int(self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in CLOSED:
                raise
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            self._interruption.because("its output is closed")


def owners() -> dict[int, str]:
    """Process ID and start of those that this stage belongs to: up to the one that has given it its run."""
    run_id = os.environ.get(GIVEN)
    found: dict[int, str] = {}
    if not run_id:
        return found  # started by hand: a terminal that is closed says so
    with suppress(psutil.Error):
        for process in psutil.Process().parents():
            given = process.environ().get(GIVEN)
            found[process.pid] = start_of(process.pid)
            if given != run_id:
                break
    return found


def _watch(watched: dict[int, str], interruption: Interruption, over: threading.Event) -> None:
    while watched and not over.wait(INTERVAL):
        if is_orphan() or any(start_of(process) != start for process, start in watched.items()):
            interruption.because("the process that started it has ended")
            return
