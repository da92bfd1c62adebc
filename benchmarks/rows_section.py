"""Section ``rows``: the filter with 4, 8 and 16 rows, against peers that solve the same problem, by batch.

Rows as drones in a crowd give them: most are met, some bind, and in some problems no command meets all. The truth is
the float64 solution, certified by the cost of its multipliers; its gradients are tested against central differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.filter_problems import LIMIT, PENALTY
from benchmarks.filter_solvers import LIMIT_PENALTY, SMOOTHING
from benchmarks.timing import Timing, interleaved
from drone_cbf.config import FilterConfig
from drone_cbf.safety import Limits, Rows, SafeCommands, make_rows_filter

PACKAGES = ("jax", "numpy", "qpax", "elastiqp")
COUNTS = (4, 8, 16)
WRONG = 1e-3
"""A gradient further off than this, relative to the one in float64 or to 1, is wrong."""
CERTAIN = 1e-4
"""The truth is within this of the solution [m/s²], or the problem is not judged."""

Row = dict[str, Any]
Command = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(nominal (3,), offset (k,), normal (k, 3)) -> command (3,)."""


@dataclass(frozen=True)
class Problems:
    """n problems of k rows, float32, each row with max|a| = 1."""

    nominal: np.ndarray
    """(n, 3) [m/s²]"""
    offset: np.ndarray
    """(n, k)"""
    normal: np.ndarray
    """(n, k, 3)"""


def random_problems(n: int, k: int, seed: int) -> Problems:
    """A random admissible command meets each row with some room, and misses a fifth of them a little."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(n, k, 3))
    normal /= np.abs(normal).max(axis=-1, keepdims=True)
    room = rng.exponential(6.0, (n, k)) * rng.choice([1.0, 1.0, 1.0, 1.0, -0.1], (n, k))
    offset = np.einsum("nki,ni->nk", normal, rng.uniform(-LIMIT, LIMIT, (n, 3))) - room
    return Problems(*(x.astype(np.float32) for x in (rng.uniform(-12.0, 12.0, (n, 3)), offset, normal)))


def ours(solver: str) -> tuple[Callable[[jax.Array, jax.Array, jax.Array], SafeCommands], Any]:
    """The filter with this solver, and its precision."""
    rows_filter = make_rows_filter(FilterConfig(solver=solver, penalty=PENALTY))

    def safe(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> SafeCommands:
        limit = jnp.asarray(LIMIT, nominal.dtype)
        rows = Rows(normal, offset, jnp.ones(offset.shape, bool))
        return rows_filter(rows, nominal, Limits(lower=-limit, upper=limit), jnp.zeros_like(nominal))

    return safe, jnp.float32


def elastiqp() -> tuple[Command, Any]:
    """Dual active set in C++, float64, called problem by problem from one compiled program; all rows are elastic."""
    import elastiqp.jax

    def command(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
        rows = jnp.concatenate([-normal, jnp.eye(3), -jnp.eye(3)])
        bounds = jnp.concatenate([-offset, jnp.asarray(LIMIT), jnp.asarray(LIMIT)])
        weights = jnp.concatenate([jnp.full(offset.shape, PENALTY), jnp.full(6, LIMIT_PENALTY)])
        return elastiqp.jax.solve(jnp.eye(3), -nominal, rows, bounds, weights, target_kappa=SMOOTHING).x

    return command, jnp.float64


def solvers() -> dict[str, Callable[[], tuple[Command, Any]]]:
    """``exact`` first: the others are given as ratios to it."""

    def of(name: str) -> tuple[Command, Any]:
        safe, kind = ours(name)
        return lambda *inputs: safe(*inputs).command, kind

    return {"exact": lambda: of("exact"), "qpax": lambda: of("qpax"), "elastiqp": elastiqp}


def compiled(command: Command, kind: Any, problems: Problems) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Calls for the commands (n, 3), and for the gradients of |u|² with respect to nominal and offsets (n, 3 + k)."""

    def squared(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
        return jnp.sum(command(nominal, offset, normal) ** 2)

    def both(*inputs: jax.Array) -> jax.Array:
        return jnp.concatenate(jax.grad(squared, argnums=(0, 1))(*inputs))

    def call(function: Callable[..., Any]) -> Callable[[], Any]:
        program = jax.jit(jax.vmap(function))

        def timed() -> Any:
            with jax.enable_x64(kind == jnp.float64):
                inputs = (problems.nominal, problems.offset, problems.normal)
                return jax.block_until_ready(program(*(jnp.asarray(one, kind) for one in inputs)))

        return timed

    return call(command), call(both)


def truth(problems: Problems) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Commands, gradients, and how far a command may be from the solution: the root of twice its excess cost."""
    safe, _ = ours("exact")
    _, gradients = compiled(lambda *inputs: safe(*inputs).command, jnp.float64, problems)
    inputs = [np.asarray(x, float) for x in (problems.nominal, problems.offset, problems.normal)]
    with jax.enable_x64(True):
        answer = jax.device_get(jax.jit(jax.vmap(safe))(*inputs))
    nominal, offset, normal = inputs
    pushed = np.clip(nominal + np.einsum("nk,nki->ni", answer.multiplier, normal), -LIMIT, LIMIT)
    missed = [offset - np.einsum("nki,ni->nk", normal, command) for command in (answer.command, pushed)]
    cost = 0.5 * np.sum((answer.command - nominal) ** 2, 1) + PENALTY * np.maximum(missed[0], 0.0).sum(1)
    bound = 0.5 * np.sum((pushed - nominal) ** 2, 1) + np.sum(answer.multiplier * missed[1], 1)
    return answer.command, np.asarray(gradients()), np.sqrt(2.0 * np.maximum(cost - bound, 0.0))


def measure(batches: Sequence[int], repeats: int, seconds: float, seed: int = 0) -> list[Row]:
    """One row for each batch, number of rows and solver."""
    return [row for batch in sorted(batches) for k in COUNTS for row in _of_one_size(batch, k, repeats, seconds, seed)]


def _of_one_size(batch: int, k: int, repeats: int, seconds: float, seed: int) -> list[Row]:
    problems, calls, rows = random_problems(batch, k, seed), {}, []
    absent: dict[str, str] = {}
    for name, build in solvers().items():
        try:
            calls[name] = compiled(*build(), problems)
        except Exception as error:  # not installed, or not for this version of JAX
            absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    forward = interleaved({name: pair[0] for name, pair in calls.items()}, repeats, seconds)
    backward = interleaved({name: pair[1] for name, pair in calls.items()}, repeats, seconds)
    command, gradient, doubt = truth(problems)
    for name in (*calls, *absent):
        row: Row = {"batch": batch, "solver": f"{name}, {k} rows"}
        times = {"forward": forward.get(name), "gradient": backward.get(name)}
        for what, timing in times.items():
            exact = (forward if what == "forward" else backward)["exact"]
            if not isinstance(timing, Timing) or not isinstance(exact, Timing):
                row |= {"note": absent.get(name, str(timing))}
                continue
            row |= {f"{what}, CPU [ms]": timing.cpu, f"{what}, CPU / exact": timing.cpu / max(exact.cpu, 1e-9)}
        if all(isinstance(timing, Timing) for timing in times.values()):
            found, slopes = (np.asarray(call(), float) for call in calls[name])
            off = np.linalg.norm(slopes - gradient, axis=1) / np.maximum(np.linalg.norm(gradient, axis=1), 1.0)
            row["largest error [m/s²]"] = float(np.abs(found - command)[doubt < CERTAIN].max(initial=0.0))
            row |= {"not judged": int(np.sum(doubt >= CERTAIN)), "gradients off": int(np.sum(~(off <= WRONG)))}
        rows.append(row)
    return rows
