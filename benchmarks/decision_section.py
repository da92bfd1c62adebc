"""Section ``decision``: time of one decision of a policy for range scans, on one core, by number of points.

    python -m benchmarks.harness --sections decision --batches 1 --repeats 500

``compiled`` and ``stablehlo`` are handed the arrays of the program and give arrays back; ``stablehlo_loader`` and
``predict`` are asked as users ask them, with the memory of the last answer, ``predict`` through the model that
``mlflow.pyfunc.load_model`` returns. By turns, in a process of its own that is bound to one core before it computes.
The networks are those of the curriculum ``lidar``, untrained; the batch is always 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "mlflow", "numpy")
ROOT = Path(__file__).resolve().parents[1]
POINTS = (2, 512, 2048, 10_000, 100_000)
EXPORTED = 512  # Points of which an exported program has room; of more than these only `predict` is asked
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
Row = dict[str, Any]


def served(folder: Path) -> tuple[Any, Any, Any, Any]:
    """System, service, exported policies by form, and the served model with untrained networks."""
    import jax
    import jax.numpy as jnp
    import mlflow

    from benchmarks.systems import curriculum_system
    from drone_cbf.barrier.neural import initial_barrier_params
    from drone_cbf.controller import ControllerParams
    from drone_cbf.exporting.drone_policy import Policy
    from drone_cbf.exporting.folder import write_folder
    from drone_cbf.policy.policies import initial_policy_params
    from drone_cbf.serving.service import PolicyService
    from drone_cbf.tracking.registry.versions import stored_model
    from projects.registration.register import servable

    system, key = curriculum_system("lidar"), jax.random.key(0)
    policy, barrier = initial_policy_params(system, key), initial_barrier_params(system, key)
    params = ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.05), blend=jnp.float32(1.0))
    package = servable(params, {"system": system.model_dump(mode="json")})
    mlflow.pyfunc.save_model(str(folder / "model"), **stored_model(package, folder / "package"))
    service = PolicyService(system, params)
    write_folder(folder / "export", system, service, EXPORTED, ("stablehlo",), "an untrained policy")
    policies = {"stablehlo": Policy(folder / "export", "stablehlo")}
    return system, service, policies, mlflow.pyfunc.load_model(str(folder / "model"))


def observation(points: int) -> dict[str, Any]:
    """The example's drone among points within 20 m."""
    import numpy as np

    from drone_cbf.serving.fields import example_observations

    cloud = np.random.default_rng(0).uniform(-20.0, 20.0, (1, points, 3))
    return {**example_observations(), "points": cloud, "mask": np.ones((1, points), bool)}


def time_decisions(repeats: int) -> list[Row]:
    """One row for each number of points and way to ask."""
    import numpy as np

    from drone_cbf.exporting.latency import by_turns, decisions

    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        _, service, policies, model = served(Path(folder))
        for points in POINTS:
            fitting = policies if points <= EXPORTED else {}
            calls = decisions(service, fitting, model.predict, observation(points))
            for name, seconds in by_turns(calls, repeats).items():
                times = {f"{label} [ms]": 1e3 * float(np.quantile(seconds, q)) for label, q in QUANTILES.items()}
                rows.append({"batch": 1, "model": f"{name}, {points:,} points"} | times)
    return rows


def measure(batches: Sequence[int], repeats: int, seconds: float) -> list[Row]:
    """Rows by number of points, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.decision_section", str(max(repeats, 50))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return [{"batch": 1, "model": "predict", "note": done.stderr.strip().splitlines()[-1][:120]}]
    rows: list[Row] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before the first computation starts threads
    print(json.dumps(time_decisions(int(sys.argv[1]))))
