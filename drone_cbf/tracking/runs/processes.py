"""Which process writes a run, and whether it still does: an identity that no correction of the clock changes.

A process is named by host, boot of the host, process ID, and the kernel's count of clock ticks from that boot to its
start. Without ``/proc`` its start [s since the epoch] stands for boot and ticks, as in runs of earlier versions.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Literal

import psutil

State = Literal["running", "gone", "elsewhere", "unknown"]
_NAME = re.compile(r"process (?P<id>\d+) on (?P<host>\S+) since (?P<start>\S+)")
_START_TIME, _STATE = 19, 0  # Places in /proc/<pid>/stat after the name of the program, which may hold blanks
_ENDED = "ZX"  # A zombie runs no more: its parent has not asked for its exit code yet
_SLACK = 2.0  # Rounding of recorded starts [s]


def process_name(process: int | None = None) -> str:
    """Identity of a process (this one's by default) on one line."""
    number = os.getpid() if process is None else process
    return f"process {number} on {socket.gethostname()} since {start_of(number)}"


def state_of(name: str) -> State:
    """Whether the process of that :func:`process_name` still runs.

    ``elsewhere``: it is one of another host, which cannot be judged here; ``unknown``: the text names no process.
    """
    known = _NAME.fullmatch(name)
    if known is None:
        return "unknown"
    if known["host"] != socket.gethostname():
        return "elsewhere"
    recorded, now = known["start"], start_of(int(known["id"]))
    if recorded.isdecimal() and now:  # of an earlier version
        return "running" if abs(_epoch(int(known["id"])) - int(recorded)) <= _SLACK else "gone"
    return "running" if now == recorded else "gone"


def end_process(name: str) -> bool:
    """Asks the process of that :func:`process_name` to end (SIGTERM) if it runs on this host; whether it did."""
    known = _NAME.fullmatch(name)
    if known is None or state_of(name) != "running":
        return False
    try:
        os.kill(int(known["id"]), signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def start_of(process: int) -> str:
    """Boot and tick at which a process of this host began; empty if it does not run."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        found = _epoch(process)
        return f"{found:.0f}" if found and not Path("/proc/self/stat").exists() else ""
    return "" if words[_STATE] in _ENDED else f"boot-{boot}-tick-{words[_START_TIME]}"


def _epoch(process: int) -> float:
    """Start of a process [s since the epoch]; 0 if it does not run."""
    try:
        return psutil.Process(process).create_time()
    except psutil.Error:
        return 0.0
