"""How long a population takes beside one training, from the start of the process, with nothing compiled before.

    python -m benchmarks.population
    python -m benchmarks.population --counts 1,8 --steps 180 --batch 64 --horizon 200

Efficiency stage, each count in a process of its own; the time of the processor says more than the clock where other
work goes on.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from functools import partial

from rich.console import Console
from rich.table import Table

SIZES = {"steps": 50, "batch": 32, "horizon": 120}
"""About those of the curriculum ``fast``."""
IN_THIS_PROCESS = "--here"


def train(count: int, steps: int, batch: int, horizon: int) -> None:
    """Trains ``count`` seeds at once; one of them as without a population."""
    from drone_cbf.config import SystemConfig
    from drone_cbf.recorder import SilentRecorder
    from drone_cbf.training.population import Population
    from drone_cbf.training.settings import EfficiencySettings
    from drone_cbf.training.stages.efficiency import train_efficiency
    from projects.running.jax_setup import configure_jax
    from projects.running.stage_runner import ROOT

    configure_jax(ROOT)
    of_seed = partial(EfficiencySettings, steps=steps, batch=batch, horizon=horizon)
    if count == 1:
        train_efficiency(SystemConfig(), of_seed(seed=0), SilentRecorder())
        return
    population = Population(count)
    trainings = [
        partial(train_efficiency, SystemConfig(), of_seed(seed=seed), SilentRecorder(), population)
        for seed in range(count)
    ]
    for ended in population.train(trainings):
        if isinstance(ended, BaseException):
            raise ended


def seconds(count: int, sizes: dict[str, int]) -> tuple[float, float]:
    """Of the clock and of the processor, for a process that trains ``count`` seeds."""
    given = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, "-m", "benchmarks.population", IN_THIS_PROCESS, f"--counts={count}", *given]
    before, begun = processor_time(), time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"})
    return time.perf_counter() - begun, processor_time() - before


def processor_time() -> float:
    """Of all children that have ended [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1,4,8", help="seeds at once, the first to compare with")
    parser.add_argument(IN_THIS_PROCESS, action="store_true", help="train the first count and print nothing")
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    counts, sizes = [int(text) for text in given.counts.split(",")], {name: getattr(given, name) for name in SIZES}
    if given.here:
        train(counts[0], **sizes)
        return
    found = {count: seconds(count, sizes) for count in counts}
    first = found[counts[0]]
    table = Table("seeds", "clock [s]", "ratio", "processor [s]", "ratio", title=str(sizes))
    for count, times in found.items():
        cells = [text for own, one in zip(times, first, strict=True) for text in (f"{own:.1f}", f"{own / one:.2f}")]
        table.add_row(str(count), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
