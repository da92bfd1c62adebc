"""How the benchmarks measure: interleaved repeats, compilation apart, within a given time."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Of one function."""

    milliseconds: float
    """Median of the repeats."""
    cpu: float
    """The same of the processor's time in all threads of this process [ms], which other work hardly changes."""
    first: float
    """Of the first call [ms], which compiles."""
    repeats: int


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int, seconds: float) -> dict[str, Timing | str]:
    """Times of all functions, in turn, so that what else the machine does meets all alike; why not, where one fails.

    ``seconds``: what one function may take in all; a slow one is repeated less often, once at least.
    """
    found: dict[str, Timing | str] = {}
    first: dict[str, float] = {}
    for name, function in functions.items():
        try:
            first[name] = _milliseconds(function)[0]
        except Exception as error:  # a peer that does not work here is a finding
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in first}
    for repeat in range(repeats):
        for name, own in times.items():
            if not repeat or sum(wall for wall, _ in own) + own[-1][0] < 1e3 * seconds:
                own.append(_milliseconds(functions[name]))
    for name, own in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*own, strict=True))
        found[name] = Timing(wall, cpu, first[name], len(own))
    return found


def _milliseconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Of the clock, and of the processor."""
    begun, used = time.perf_counter(), time.process_time()
    function()
    return 1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - used)


def machine(packages: tuple[str, ...]) -> dict[str, str]:
    """Processor, cores, load and versions: what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": names[0] if names else platform.processor() or platform.machine(), "cores": str(cores)}
    found |= {"load before": f"{os.getloadavg()[0]:.1f}", "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
