"""Whether the process of a run still runs, whatever happened to the clock in between."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from drone_cbf.tracking.runs.processes import process_name, start_of, state_of

HOST = socket.gethostname()


def test_a_process_is_running_until_it_ends_even_while_nobody_has_asked_for_its_exit_code() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    assert state_of(name) == "running" and state_of(process_name()) == "running"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    assert state_of(name) == "gone"
    process.wait()
    assert state_of(name) == "gone"


def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = process_name()
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 86_400.0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert process_name() == name and state_of(name) == "running"


@pytest.mark.parametrize(
    ("name", "state"),
    [
        (f"process {os.getpid()} on {HOST} since boot-other-tick-1", "gone"),  # the machine was started again
        (process_name().replace(f"process {os.getpid()} ", "process 1 "), "gone"),  # the ID belongs to another one
        ("process 7 on elsewhere since 0", "elsewhere"),
        ("", "unknown"),
        ("nonsense", "unknown"),
        (f"process {os.getpid()} on {HOST} since {psutil.Process().create_time():.0f}", "running"),  # earlier version
        (f"process {os.getpid()} on {HOST} since 12345", "gone"),
    ],
    ids=["another boot", "another process", "another host", "empty", "nonsense", "earlier version", "earlier and gone"],
)
def test_a_recorded_process_is_judged_by_host_boot_and_tick(name: str, state: str) -> None:
    assert state_of(name) == state


def test_a_process_that_never_was_has_no_start() -> None:
    assert start_of(2**22 + 1) == ""
