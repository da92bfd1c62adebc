"""Time of one decision of a registered policy in this process, on one core, by number of points.

The CPU time is that of all threads of the process, which other work on the machine hardly changes.

    python -m benchmarks.serving_latency                                an untrained policy for lidar
    python -m benchmarks.serving_latency models:/drone-policy@champion

``predict`` is the model that ``mlflow.pyfunc.load_model`` returns, ``unwrapped`` what its ``unwrap_python_model()``
returns; both are asked for one observation with the memory of the last answer, as numpy arrays. Loading includes all
compilation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mlflow
import numpy as np
from rich.console import Console
from rich.table import Table

from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import BarrierConfig, PolicyConfig, SensorConfig, SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.serving.fields import example_observations
from drone_cbf.tracking.registry.versions import stored_model
from projects.registration.register import servable

POINTS = (2, 512, 2048, 10_000, 100_000)


def untrained(folder: Path) -> str:
    """A stored model with the networks of the curriculum ``lidar``."""
    parts = {"sensor": SensorConfig(kind="lidar"), "policy": PolicyConfig(kind="steered")}
    system, key = SystemConfig(**parts, barrier=BarrierConfig(base="braking")), jax.random.key(0)
    policy, barrier = initial_policy_params(system, key), initial_barrier_params(system, key)
    tree = ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.05), blend=jnp.float32(1.0))
    stored = stored_model(servable(tree, {"system": system.model_dump(mode="json")}), folder / "package")
    mlflow.pyfunc.save_model(str(folder / "model"), **stored)
    return str(folder / "model")


def observation(points: int) -> dict[str, np.ndarray]:
    """The example's drone among points within 20 m."""
    cloud = np.random.default_rng(0).uniform(-20.0, 20.0, (1, points, 3))
    return {**example_observations(), "points": cloud, "mask": np.ones((1, points), bool)}


def times(call: Callable[[dict[str, Any]], Any], fields: dict[str, Any], repeats: int) -> np.ndarray:
    """Seconds of each call and of the CPU, (repeats, 2)."""
    fields = {**fields, "memory": call(fields)["memory"]}
    taken = np.empty((repeats, 2))
    for index in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        call(fields)
        taken[index] = time.perf_counter() - wall, time.process_time() - busy
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="URI of a registered policy (default: an untrained one)")
    parser.add_argument("--repeats", type=int, default=500, help="timed calls per figure (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before the first computation starts threads
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        uri = arguments.model or untrained(Path(folder))
        started = time.perf_counter()
        model = mlflow.pyfunc.load_model(uri)
        loading = time.perf_counter() - started
    unwrapped = model.unwrap_python_model()
    calls = {"predict": model.predict, "unwrapped": lambda fields: unwrapped.predict(None, fields)}
    table = Table("points", *(f"{name} {part} [ms]" for name in calls for part in ("p10", "p50", "p99", "CPU p50")))
    for points in POINTS:
        taken = [times(call, observation(points), arguments.repeats) for call in calls.values()]
        figures = [[*np.quantile(each[:, 0], (0.1, 0.5, 0.99)), np.median(each[:, 1])] for each in taken]
        table.add_row(f"{points:,}", *(f"{1e3 * figure:.2f}" for figure in np.ravel(figures)))
    Console(width=160).print(f"loaded in {loading:.1f} s", table)


if __name__ == "__main__":
    main()
