"""Every way in which a stage is ended from outside is the same interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper

import pytest

from drone_cbf.tracking.runs.processes import start_of
from projects.running import interruption
from projects.running.interruption import Interruption, Stream, interruptible, owners, uninterrupted


def wait_for_interruption(cause: Callable[[], object]) -> str:
    """The reason with which the main thread is interrupted after ``cause``."""
    with pytest.raises(KeyboardInterrupt) as caught, interruptible():
        cause()
        time.sleep(30.0)
    return str(caught.value)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_each_signal_interrupts_once_and_afterwards_all_is_as_before(number: signal.Signals) -> None:
    given = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under 'nohup' it would stay ignored
    before = [signal.getsignal(name) for name in interruption.SIGNALS]

    def twice() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(30.0)
        except KeyboardInterrupt:
            for name in interruption.SIGNALS:  # none of them cuts short how the run is closed
                os.kill(os.getpid(), name)
            raise

    try:
        assert wait_for_interruption(twice) == number.name
        assert [signal.getsignal(name) for name in interruption.SIGNALS] == before
    finally:
        signal.signal(signal.SIGHUP, given)


def test_a_call_that_must_not_be_cut_off_ends_before_the_interruption() -> None:
    done = []

    def call() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            done.append("call")
        done.append("later")

    assert wait_for_interruption(call) == "SIGTERM" and done == ["call"]


def test_a_stage_that_is_to_outlive_its_terminal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as 'nohup' does
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            went_on = True
        assert went_on and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "as it was given"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_that_nobody_reads_interrupts_and_is_silent_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    closed = TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True)
    monkeypatch.setattr(sys, "stdout", closed)
    os.close(reading)

    def write() -> None:
        try:
            print("1/10")
            time.sleep(30.0)
        except KeyboardInterrupt:
            print("how to go on", flush=True)  # not a second error
            raise

    assert wait_for_interruption(write) == "its output is closed"
    assert sys.stdout is closed


def test_other_errors_of_writing_are_errors() -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Stream(Full(), Interruption()).write("x")


def test_a_stage_ends_with_the_process_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(interruption, "INTERVAL", 0.02)
    monkeypatch.setattr(interruption, "owners", lambda: {owner.pid: start_of(owner.pid)})
    assert wait_for_interruption(owner.kill) == "the process that started it has ended"
    owner.wait()


def test_a_stage_whose_starter_was_gone_before_it_could_look_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "INTERVAL", 0.02)
    monkeypatch.setattr(interruption, "owners", lambda: {os.getpid(): start_of(os.getpid())})
    gone = os.getppid() + 1
    reason = wait_for_interruption(lambda: monkeypatch.setattr("projects.running.parent.PARENT", gone))
    assert reason == "the process that started it has ended"


def test_a_stage_belongs_to_those_that_know_its_run_and_to_the_one_that_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Process:
        def __init__(self, pid: int = 9, **environment: str) -> None:
            self.pid, self._environment = pid, environment

        def environ(self) -> dict[str, str]:
            return self._environment

        def parents(self) -> list[Process]:
            shell, mlflow_run = Process(8, MLFLOW_RUN_ID="mine"), Process(7, MLFLOW_RUN_ID="pipeline")
            return [shell, mlflow_run, Process(6), Process(1)]

    monkeypatch.setattr(interruption.psutil, "Process", Process)
    monkeypatch.setattr(interruption, "start_of", str)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert owners() == {}, "started by hand"
    monkeypatch.setenv("MLFLOW_RUN_ID", "mine")
    assert owners() == {8: "8", 7: "7"}


def test_a_thread_changes_no_handlers() -> None:
    def inside() -> None:
        with interruptible():
            found.append(signal.getsignal(signal.SIGTERM))

    found: list[object] = []
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


STUCK = """
import os, signal, sys, threading
from projects.running import interruption
interruption.LEAVING = 0.5
try:
    with interruption.interruptible():
        threading.Thread(target=threading.Event().wait).start()  # as a worker of a pool that nobody tells to end
        os.kill(os.getpid(), signal.SIGTERM) if "asked" in sys.argv else None
except KeyboardInterrupt:
    print("state stored", flush=True)
    raise SystemExit(130)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_an_interrupted_process_does_not_wait_for_ever_for_a_thread(asked: bool) -> None:
    words = [sys.executable, "-c", STUCK, "asked" if asked else "left alone"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        if asked:
            told, _ = process.communicate(timeout=60.0)
            assert process.returncode == 130 and told == "state stored\n"
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5.0)
    finally:
        process.kill()
        process.wait()
