"""Section ``training``: seconds from the start of a process to a policy that succeeds in 98 % of its training flights.

    python -m benchmarks.harness --sections training --batches 64

Each row is a process of its own that trains as the stage ``efficiency`` does: first with nothing compiled, then with
the programs of the first one. A batch is the flights of an update. Success is the mean of the last ``MEAN`` updates, of
the policy alone, without filter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drone_cbf.recorder import SilentRecorder

PACKAGES = ("jax", "jaxlib", "numpy")
ROOT = Path(__file__).resolve().parents[1]
WANTED, MEAN = 0.98, 5
MOST = 300  # Updates after which a training has failed
SCENES = {"random_cloud": ("random_cloud",), "default families": ("fixed_ring", "random_cloud", "forest")}
HORIZON = {"random_cloud": 120, "default families": 200}  # Steps of a flight
Row = dict[str, Any]


class Watch(SilentRecorder):
    """Recorder that stops the training once it succeeds, and prints what a row needs."""

    def __init__(self, begun: float) -> None:
        self.begun, self.times, self.success = begun, [time.time()], list[float]()

    def begin(self, description: str, total_steps: int, done: int = 0) -> None:
        self.times = [time.time()]

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.times.append(time.time())
        self.success.append(values["train/success_rate"])
        done = len(self.success) >= MEAN and sum(self.success[-MEAN:]) / MEAN >= WANTED
        if done or step + 1 == MOST:
            self.tell(done)

    def tell(self, done: bool) -> None:
        """Prints the row and ends the process."""
        later = self.times[-1] - self.times[1]
        row = {
            "first update after [s]": self.times[1] - self.begun,
            "98 % after [s]": self.times[-1] - self.begun if done else None,
            "updates": len(self.success),
            "updates a second": (len(self.success) - 1) / later,
        }
        print(json.dumps(row), flush=True)
        os._exit(0)


def train(name: str, batch: int, begun: float) -> None:
    """Trains until :class:`Watch` ends this process."""
    from drone_cbf.config import SystemConfig
    from drone_cbf.training.settings import EfficiencySettings
    from drone_cbf.training.stages.efficiency import train_efficiency
    from projects.running.jax_setup import collect_rarely, configure_jax

    configure_jax(ROOT)
    collect_rarely()
    settings = EfficiencySettings(steps=MOST, batch=batch, horizon=HORIZON[name], scenes=SCENES[name])
    train_efficiency(SystemConfig(), settings, Watch(begun))


def measure(batches: Sequence[int], repeats: int, seconds: float) -> list[Row]:
    """Two rows for each batch and mixture of scenes; each training is done once."""
    rows: list[Row] = []
    for batch in sorted(batches):
        for name in SCENES:
            with tempfile.TemporaryDirectory(prefix="drone_cbf-") as cache:
                for state in ("nothing compiled", "compiled before"):
                    rows.append({"batch": batch, "model": f"{name}, {state}"} | _process(name, batch, cache))
                    steps = batch * HORIZON[name] * rows[-1].get("updates a second", 0.0)
                    rows[-1]["steps [k/s]"] = steps / 1e3
    return rows


def _process(name: str, batch: int, cache: str) -> Row:
    command = [sys.executable, "-m", "benchmarks.training_section", name, str(batch), repr(time.time())]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {"note": done.stderr.strip().splitlines()[-1][:120]}


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
