"""The filter at the limits of float32: what it promises holds, or the problem is refused by a status."""

import itertools

import numpy as np
import pytest

from drone_cbf.config import FilterConfig
from drone_cbf.safety import Status
from drone_cbf.safety.records import LARGEST_COMMAND, LARGEST_ROW
from tests.safety import reference
from tests.safety.extremes import extreme_problems
from tests.safety.harness import FALLBACK, jacobian, run

EXACT = FilterConfig()
KINDS = {
    "exact": EXACT,
    "exact, quadratic": FilterConfig(slack_penalty="quadratic"),
    "projected_gradient": FilterConfig(solver="projected_gradient"),
    "projected_gradient, quadratic": FilterConfig(solver="projected_gradient", slack_penalty="quadratic"),
    "qpax": FilterConfig(solver="qpax"),
}
RANGES = {
    "all of float32": (38.53, 38.53),
    "up to 1e12": (12.0, 12.0),
    "in range": (32.0, 3.0),
    "rows of 1e6": (6.0, 3.0),
}
"""Decades of rows and commands."""
MET = 1e-3  # A row is met if it is missed by less than this, of max|a| [m/s^2]
DENORMAL = 2.4e-38  # XLA takes numbers below half of this for zero, limit and command alike


def promised(p):
    """Which problems are in range."""
    commands = np.maximum(np.abs(p.nominal), np.maximum(np.abs(p.lower), np.abs(p.upper))).max(axis=1)
    rows = np.maximum(np.abs(p.offset), p.size)
    return (commands <= np.float32(LARGEST_COMMAND)) & (rows <= np.float32(LARGEST_ROW))


def check(config, p):
    safe, gradient, q = run(config, p), jacobian(config, p), p.astype(np.float64)
    refused = safe.status == Status.FALLBACK
    assert np.isfinite(safe.command).all() and np.isfinite(safe.slack).all() and np.isfinite(safe.multiplier).all()
    assert np.isfinite(gradient).all()
    assert not gradient[refused].any()
    assert refused[~promised(p)].all(), "out of range"
    inside = (safe.command >= q.lower - DENORMAL) & (safe.command <= q.upper + DENORMAL)
    assert (inside.all(axis=1) | refused).all()
    np.testing.assert_array_equal(safe.command[refused], np.broadcast_to(np.float32(FALLBACK), (refused.sum(), 3)))
    missed = q.offset - np.einsum("ni,ni->n", q.normal, safe.command)
    met = np.isin(safe.status, [Status.NOMINAL, Status.INTERVENED])
    flushed = DENORMAL * (1.0 + np.abs(safe.command).sum(axis=1))  # Of the offset, and of coefficients times commands
    assert (missed <= MET * q.size + flushed)[met].all(), "called met"
    assert (safe.slack >= 0.0).all()
    told = np.isin(safe.status, [Status.RELAXED, Status.NO_AUTHORITY])
    rounding = MET * (q.size + np.abs(missed)) + LARGEST_COMMAND * DENORMAL
    assert (np.abs(safe.slack - np.maximum(missed, 0.0)) <= rounding)[told].all()
    return refused


def problems(n, seed):
    """n of each range."""
    return reference.concatenate({name: extreme_problems(n, seed, *decades) for name, decades in RANGES.items()})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qpax"])
def test_values_and_gradients_are_finite_commands_admissible_and_met_rows_met(kind):
    p = problems(1_024, seed=1)
    refused = check(KINDS[kind], p)
    np.testing.assert_array_equal(refused, ~promised(p))
    assert 0.1 < refused.mean() < 0.9


@pytest.mark.parametrize("entry", ["normal", "offset", "nominal", "lower", "upper"])
def test_an_entry_just_beyond_the_range_is_refused_and_the_last_one_inside_is_solved(entry):
    p = reference.random_problems(6, seed=0).astype(np.float32)
    bound = np.float32(LARGEST_ROW if entry in ("normal", "offset") else LARGEST_COMMAND)
    beyond = np.nextafter(bound, np.float32(np.inf))
    sign = -1.0 if entry == "lower" else 1.0
    for row, size in enumerate((bound, beyond)):
        getattr(p, entry)[(row, 0) if getattr(p, entry).ndim == 2 else row] = sign * size
    statuses = run(EXACT, p).status
    assert statuses[0] != Status.FALLBACK and statuses[1] == Status.FALLBACK
    assert (statuses[2:] != Status.FALLBACK).all()


def test_limits_in_the_wrong_order_are_refused():
    p = reference.random_problems(4, seed=0).astype(np.float32)
    p.lower[0, 1], p.upper[0, 1] = p.upper[0, 1], p.lower[0, 1]
    np.testing.assert_array_equal(run(EXACT, p).status == Status.FALLBACK, [True, False, False, False])


def test_a_small_row_missed_by_a_part_of_its_size_is_not_called_met():
    """Slack is in the unit of the row: 5e-5 is little for a row of size 1 and much for one of 1e-3."""
    size = np.float32([1e-3, 1.0])
    p = reference.Problems(
        normal=size[:, None] * np.float32([[1.0, 0.0, 0.0]]),
        offset=9.0 * size + np.float32(5e-5),
        nominal=np.zeros((2, 3), np.float32),
        lower=np.full((2, 3), -9.0, np.float32),
        upper=np.full((2, 3), 9.0, np.float32),
    )
    np.testing.assert_array_equal(run(EXACT, p).status, [Status.RELAXED, Status.INTERVENED])


def test_the_gradient_towards_a_row_of_any_size_is_that_of_the_row_divided_by_it():
    p = reference.adversarial_families(40, seed=3)["just infeasible"]
    p = reference.Problems(p.normal / p.size[:, None], p.offset / p.size, p.nominal, p.lower, p.upper)
    p = p.astype(np.float32)
    for kind, power in itertools.product(("exact", "exact, quadratic"), (60, 100)):
        factor = np.float32(2.0**power)
        larger = reference.Problems(p.normal * factor, p.offset * factor, p.nominal, p.lower, p.upper)
        expected, found = jacobian(KINDS[kind], p), jacobian(KINDS[kind], larger)
        np.testing.assert_allclose(found[:, :3, :3] * factor, expected[:, :3, :3], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[:, 3, :3], expected[:, 3, :3], rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_problems_keep_the_promises(kind):
    """250,000 of each range for each kind; 1,000 for qpax, which takes a thousand times as long."""
    check(KINDS[kind], problems(1_000 if kind == "qpax" else 250_000, seed=2))
