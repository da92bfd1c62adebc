"""Speed and accuracy of the three filter solvers on one batch of random problems.

    python benchmarks/filter_solvers.py

Times are medians over the repeats, compilation excluded, as ratios to ``exact`` too. Errors are against bisection in
float64. Rows of every size, from already met to just out of reach.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from drone_cbf.config import FilterConfig
from drone_cbf.safety import Limits, Row, Status, make_filter

SOLVERS = ("exact", "projected_gradient", "qpax")  # exact first: the others are given as ratios to it
LIMIT = np.array([9.0, 9.0, 7.0])


@dataclass(frozen=True)
class Batch:
    """n problems, float32; commands in m/s^2."""

    normal: np.ndarray
    offset: np.ndarray
    nominal: np.ndarray


@dataclass(frozen=True)
class Measurement:
    solver: str
    forward: float
    """[ms]"""
    with_gradient: float
    """[ms]"""
    largest_error: float
    """[m/s^2]"""
    typical_error: float
    """99 % quantile [m/s^2]."""
    non_finite_gradients: int
    fallbacks: int


def random_batch(n: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(n, 3))
    normal *= 10 ** rng.uniform(-2.0, 1.0, (n, 1)) / np.abs(normal).max(axis=1, keepdims=True)
    nominal = rng.uniform(-12.0, 12.0, (n, 3))
    now = np.sum(normal * np.clip(nominal, -LIMIT, LIMIT), axis=1)
    largest = np.sum(np.abs(normal) * LIMIT, axis=1)
    offset = now + rng.uniform(-0.2, 1.1, n) * (largest - now)
    return Batch(*(x.astype(np.float32) for x in (normal, offset, nominal)))


def float64_commands(batch: Batch, penalty: float) -> np.ndarray:
    """Bisection on the dual to the last bit."""
    normal, offset, nominal = (np.asarray(x, np.float64) for x in (batch.normal, batch.offset, batch.nominal))
    size = np.abs(normal).max(axis=1)
    normal, offset = normal / size[:, None], offset / size

    def command(multiplier: np.ndarray) -> np.ndarray:
        return np.clip(nominal + multiplier[:, None] * normal, -LIMIT, LIMIT)

    low, high = np.zeros_like(offset), np.full_like(offset, penalty)
    for _ in range(100):
        middle = 0.5 * (low + high)
        short = np.sum(normal * command(middle), axis=1) < offset
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    met = np.sum(normal * command(np.zeros_like(offset)), axis=1) >= offset
    return command(np.where(met, 0.0, high))


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one to compile."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(solver: str, batch: Batch, repeats: int) -> Measurement:
    config = FilterConfig(solver=solver)
    safety_filter = make_filter(config)
    limits = Limits(lower=jnp.asarray(-LIMIT, jnp.float32), upper=jnp.asarray(LIMIT, jnp.float32))
    fallback = jnp.zeros(3, jnp.float32)

    def apply(row: Row, nominal: jax.Array):
        return safety_filter(row, nominal, limits, fallback)

    def cost(row: Row, nominal: jax.Array):
        safe = apply(row, nominal)
        return jnp.sum(safe.command**2) + safe.slack

    rows, nominal = Row(jnp.asarray(batch.normal), jnp.asarray(batch.offset)), jnp.asarray(batch.nominal)
    forward = jax.jit(jax.vmap(lambda row, u: apply(row, u).command))
    with_gradient = jax.jit(jax.vmap(jax.value_and_grad(cost, argnums=(0, 1))))
    _, gradients = with_gradient(rows, nominal)
    leaves = [np.asarray(leaf).reshape(len(batch.offset), -1) for leaf in jax.tree.leaves(gradients)]
    safe = jax.jit(jax.vmap(apply))(rows, nominal)
    error = np.abs(np.asarray(safe.command) - float64_commands(batch, config.penalty)).max(axis=1)
    return Measurement(
        solver=solver,
        forward=milliseconds(lambda: forward(rows, nominal), repeats),
        with_gradient=milliseconds(lambda: with_gradient(rows, nominal), repeats),
        largest_error=float(error.max()),
        typical_error=float(np.quantile(error, 0.99)),
        non_finite_gradients=int(np.sum(~np.isfinite(np.concatenate(leaves, axis=1)).all(axis=1))),
        fallbacks=int(np.sum(np.asarray(safe.status) == Status.FALLBACK)),
    )


def report(measurements: list[Measurement], batch: int) -> Table:
    exact = measurements[0]
    device = jax.devices()[0].device_kind
    title = f"CBF-QP, batch {batch:,}, float32, {device}; times in ms, errors in m/s²"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("solver", no_wrap=True)
    headings = ("value", "+ grad", "max error", "99 % error", "NaN grad", "fell back")
    for heading in headings:
        table.add_column(heading, justify="right")
    for m in measurements:
        table.add_row(
            m.solver,
            f"{m.forward:.2f}\n{m.forward / exact.forward:.1f}x",
            f"{m.with_gradient:.2f}\n{m.with_gradient / exact.with_gradient:.1f}x",
            f"{m.largest_error:.0e}",
            f"{m.typical_error:.0e}",
            str(m.non_finite_gradients),
            str(m.fallbacks),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16_384, help="problems per call (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls per figure (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random problems (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.batch < 1 or arguments.repeats < 1:
        parser.error("--batch and --repeats must be at least 1")
    batch = random_batch(arguments.batch, arguments.seed)
    console = Console()
    measurements = []
    for solver in SOLVERS:
        with console.status(f"measuring {solver}"):
            measurements.append(measure(solver, batch, arguments.repeats))
    console.print(report(measurements, arguments.batch))


if __name__ == "__main__":
    main()
