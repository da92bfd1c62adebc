"""Section ``filter``: our solvers against peers, by batch: time, error, gradients.

proxqp calls some problems infeasible that are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.filter_problems import Answers, answers, random_problems
from benchmarks.filter_solvers import SOLVERS, Calls
from benchmarks.timing import Timing, interleaved

PACKAGES = ("jax", "numpy", "qpax", "elastiqp", "jaxopt", "clarabel", "proxsuite")
WRONG = 1e-3
"""A gradient further off than this, relative to the one in float64 or to 1, is wrong."""
TOO_LONG = 2.0
"""A single call may take this many times what all calls for a figure may; slower ones are left out."""

Row = dict[str, Any]


def measure(batches: Sequence[int], repeats: int, seconds: float, seed: int = 0) -> list[Row]:
    """One row for each batch and solver."""
    rows: list[Row] = []
    each: dict[str, float] = {}  # Seconds that a solver takes for one problem of the batch before
    for batch in sorted(batches):
        problems = random_problems(batch, seed)
        truth, calls, absent = answers(problems), {}, {}
        for name, build in SOLVERS.items():
            if (expected := each.get(name, 0.0) * batch) > TOO_LONG * seconds:
                absent[name] = f"left out: a call would take about {expected:.0f} s"
                continue
            try:
                calls[name] = build(problems)
            except Exception as error:  # not installed, or not for this version of JAX
                absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        forward = interleaved({name: call.commands for name, call in calls.items()}, repeats, seconds)
        each |= {name: one.cpu / 1e3 / batch for name, one in forward.items() if isinstance(one, Timing)}
        graded = {name: call.gradients for name, call in calls.items() if call.gradients}
        backward = interleaved(graded, repeats, seconds)
        for name in SOLVERS:
            row: Row = {"batch": batch, "solver": name}
            if name in absent:
                rows.append(row | {"note": absent[name]})
                continue
            row |= _times("forward", name, forward) | _times("gradient", name, backward)
            rows.append(row | _accuracy(calls[name], truth, forward[name], backward.get(name)))
    return rows


def _times(what: str, name: str, found: dict[str, Timing | str]) -> Row:
    """Milliseconds, ratio to ``exact`` in the same run, and what the first call took longer."""
    timing, exact = found.get(name), found.get("exact")
    if not isinstance(timing, Timing) or not isinstance(exact, Timing):
        return {"note": timing} if isinstance(timing, str) else {}
    return {
        f"{what} [ms]": timing.milliseconds,
        f"{what} / exact": timing.milliseconds / exact.milliseconds,
        f"{what}, CPU [ms]": timing.cpu,
        f"{what}, CPU / exact": timing.cpu / max(exact.cpu, 1e-9),
        f"{what} first call [s]": (timing.first - timing.milliseconds) / 1e3,
    }


def _accuracy(calls: Calls, truth: Answers, forward: Timing | str, backward: Timing | str | None) -> Row:
    """Errors against float64; a gradient is judged only where it is the same on all sides."""
    if isinstance(forward, str):
        return {}
    command = np.asarray(calls.commands(), float)
    finite = np.isfinite(command).all(axis=1)
    error = np.abs(command - truth.command)[finite].max(initial=0.0)
    row: Row = {"largest error [m/s²]": float(error), "not finite": int(np.sum(~finite))}
    if calls.gradients is None or not isinstance(backward, Timing):
        return row
    gradient = calls.graded()
    usable = np.isfinite(gradient).all(axis=1)
    size = np.maximum(np.linalg.norm(truth.gradient, axis=1), 1.0)
    off = np.linalg.norm(np.where(usable[:, None], gradient, 0.0) - truth.gradient, axis=1) / size
    wrong = usable & truth.is_smooth & (off > WRONG)
    return row | {"gradients not finite": int(np.sum(~usable)), "gradients wrong": int(np.sum(wrong))}
