"""The filter as a whole: statuses, invariants, gradient modes, bad input, and transformations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import FilterConfig
from drone_cbf.safety import SLACK_TOLERANCE, Limits, Row, SafeCommand, Status, make_filter
from drone_cbf.safety.records import RELATIVE_SLACK
from tests.safety import reference
from tests.safety.harness import FALLBACK, fields, jacobian, one, run

SOLVERS = ["exact", "projected_gradient", "qpax"]
LIMIT = np.float32([9.0, 9.0, 7.0])
ACCURACY = {"exact": 1e-5, "projected_gradient": 1e-5, "qpax": 1e-3}
"""[m/s^2] on ordinary rows in float32: rounding, and the interior point's stopping residual."""


def filtered(normal, offset, nominal, solver="exact") -> SafeCommand:
    normal, nominal = np.float32([normal]), np.float32([nominal])
    p = reference.Problems(normal, np.float32([offset]), nominal, -LIMIT[None], LIMIT[None])
    return jax.tree.map(lambda leaf: leaf[0], run(FilterConfig(solver=solver), p))


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_status_is_reported_with_the_command_it_promises(solver):
    cases = {
        Status.NOMINAL: ([1.0, 0.0, 0.0], -1.0, [0.5, 12.0, 0.0], [0.5, 9.0, 0.0], 0.0),
        Status.INTERVENED: ([2.0, 0.0, 0.0], 4.0, [0.5, 1.0, 0.0], [2.0, 1.0, 0.0], 0.0),
        Status.RELAXED: ([1.0, 1.0, 0.0], 20.0, [0.5, 1.0, 3.0], [9.0, 9.0, 3.0], 2.0),
        Status.NO_AUTHORITY: ([0.0, 1e-5, 0.0], 1.0, [0.5, 1.0, 8.0], [0.5, 1.0, 7.0], 1.0 - 1e-5),
        Status.FALLBACK: ([np.nan, 0.0, 0.0], 1.0, [0.5, 1.0, 0.0], FALLBACK, 0.0),
    }
    for status, (normal, offset, nominal, command, slack) in cases.items():
        safe = filtered(normal, offset, nominal, solver)
        assert safe.status == status
        assert safe.status.dtype == jnp.int32
        np.testing.assert_allclose(safe.command, command, atol=ACCURACY[solver])
        np.testing.assert_allclose(safe.slack, slack, atol=1e-4)


def test_multiplier_is_that_of_the_row_divided_by_its_largest_coefficient():
    # u = u_nom + lambda a / max|a|: from 0.5 to 2 along the first axis.
    for solver in SOLVERS:
        safe = filtered([2.0, 0.0, 0.0], 4.0, [0.5, 1.0, 0.0], solver)
        np.testing.assert_allclose(safe.multiplier, 1.5, atol=ACCURACY[solver])
        assert filtered([1.0, 1.0, 0.0], 20.0, [0.5, 1.0, 3.0], solver).multiplier == 1000.0
        assert filtered([1.0, 0.0, 0.0], -1.0, [0.5, 1.0, 0.0], solver).multiplier == 0.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_commands_never_leave_the_limits(solver):
    n = 4_000 if solver != "qpax" else 100
    p = reference.concatenate(reference.adversarial_families(n, seed=2))
    safety_filter = make_filter(FilterConfig(solver=solver))

    def with_fallback_in_limits(normal, offset, nominal, lower, upper):
        """As its contract asks: on some processors qpax needs it for boxes that are a single point."""
        fallback = jnp.clip(jnp.zeros_like(nominal), lower, upper)
        return safety_filter(Row(normal, offset), nominal, Limits(lower, upper), fallback)

    safe = jax.jit(jax.vmap(with_fallback_in_limits))(*fields(p))
    assert np.all(safe.command >= p.lower)
    assert np.all(safe.command <= p.upper)


@pytest.mark.parametrize("solver", SOLVERS)
def test_slack_is_zero_whenever_an_admissible_command_satisfies_the_row(solver):
    p = reference.random_problems(4_000 if solver != "qpax" else 1_000, seed=6).astype(np.float32)
    # The penalty buys a displacement of 21 m/s^2 along every axis whose coefficient is at least 21 / penalty.
    affordable = np.abs(p.normal / p.size[:, None]).min(axis=1) > 21.0 / FilterConfig().penalty
    feasible = p.offset < p.largest - 1e-5 * p.size
    chosen = p[affordable & feasible]
    safe = run(FilterConfig(solver=solver), chosen)
    assert len(safe.slack) > 500
    assert np.all(safe.slack <= (0.0 if solver != "qpax" else 1e-5 * chosen.size))
    met = np.einsum("ni,ni->n", chosen.normal.astype(np.float64), safe.command) - chosen.offset
    assert np.all(met >= -ACCURACY[solver] * chosen.size)


def test_filtering_a_safe_command_returns_it():
    for solver in SOLVERS:
        p = reference.random_problems(1_000, seed=7).astype(np.float32)
        first = run(FilterConfig(solver=solver), p)
        met = first.status != Status.RELAXED
        p, first = p[met], jax.tree.map(lambda leaf, met=met: leaf[met], first)
        inside = reference.Problems(p.normal, p.offset, first.command, p.lower, p.upper)
        again = run(FilterConfig(solver=solver), inside)
        moved = np.abs(again.command - first.command).max(axis=1)
        assert np.quantile(moved, 0.99) <= ACCURACY[solver]
        # The miss left by rounding, through the smallest coefficients of these rows.
        assert moved.max() <= 100 * ACCURACY[solver]


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_already_met_leave_the_nominal_command_untouched(solver):
    p = reference.random_problems(1_000, seed=8).astype(np.float32)
    p = reference.Problems(p.normal, p.offset - 100.0 * p.size, p.nominal, p.lower, p.upper)
    safe = run(FilterConfig(solver=solver), p)
    np.testing.assert_array_equal(safe.command, np.clip(p.nominal, p.lower, p.upper))
    assert np.all(safe.status == Status.NOMINAL)
    assert np.all(safe.slack == 0.0)


def test_status_relaxed_means_slack_above_the_tolerance():
    p = reference.concatenate(reference.adversarial_families(500, seed=9))
    safe = run(FilterConfig(), p)
    tolerance = np.minimum(np.float32(SLACK_TOLERANCE), np.float32(RELATIVE_SLACK) * p.size)
    np.testing.assert_array_equal(safe.status == Status.RELAXED, safe.slack > tolerance)


@pytest.mark.parametrize("solver", ["exact", "qpax"])
def test_identity_mode_passes_the_gradient_to_the_nominal_command_only(solver):
    p = reference.random_problems(200, seed=10).astype(np.float32)
    full, identity = FilterConfig(solver=solver), FilterConfig(solver=solver, gradient="identity")
    gradient = jacobian(identity, p)
    np.testing.assert_array_equal(gradient[:, :3, 4:], np.broadcast_to(np.eye(3), (200, 3, 3)))
    assert not gradient[:, :, :4].any()
    assert not gradient[:, 3].any()
    np.testing.assert_allclose(run(identity, p).command, run(full, p).command, atol=ACCURACY[solver])


@pytest.mark.parametrize("solver", ["exact", "qpax"])
def test_stopped_mode_passes_no_gradient(solver):
    p = reference.random_problems(200, seed=11).astype(np.float32)
    full, stopped = FilterConfig(solver=solver), FilterConfig(solver=solver, gradient="stopped")
    assert not jacobian(stopped, p).any()
    np.testing.assert_allclose(run(stopped, p).command, run(full, p).command, atol=ACCURACY[solver])


@pytest.mark.parametrize(
    ("solver", "gradient"), [*((solver, "full") for solver in SOLVERS), ("exact", "identity"), ("exact", "stopped")]
)
def test_input_that_is_not_finite_flies_the_fallback_and_has_zero_gradients(solver, gradient):
    config = FilterConfig(solver=solver, gradient=gradient)
    p = reference.random_problems(15, seed=12).astype(np.float32)
    for i, (array, bad) in enumerate(itertools.product(fields(p), (np.nan, np.inf, -np.inf))):
        array[(i,) if array.ndim == 1 else (i, i % 3)] = bad
    safe = run(config, p)
    assert np.all(safe.status == Status.FALLBACK)
    np.testing.assert_array_equal(safe.command, np.broadcast_to(np.float32(FALLBACK), (15, 3)))
    assert not safe.slack.any()
    np.testing.assert_array_equal(jacobian(config, p), 0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_that_would_overflow_flies_the_fallback_and_has_zero_gradients(solver):
    p = reference.random_problems(4, seed=13)
    # The only admissible command is -0.9 along the row; it misses 3e38 by 5e38, more than float32 holds.
    only = -0.9 * np.sign(p.normal)
    p = reference.Problems(3e38 * np.sign(p.normal), np.full(4, 3e38), p.nominal, only, only).astype(np.float32)
    safe = run(FilterConfig(solver=solver), p)
    assert np.all(safe.status == Status.FALLBACK)
    np.testing.assert_array_equal(safe.command, np.broadcast_to(np.float32(FALLBACK), (4, 3)))
    np.testing.assert_array_equal(jacobian(FilterConfig(solver=solver), p), 0.0)


def test_rows_whose_squares_overflow_are_solved_like_smaller_ones():
    p = reference.random_problems(500, seed=16)
    p = reference.Problems(p.normal / p.size[:, None], p.offset / p.size, p.nominal, p.lower, p.upper)
    p = p.astype(np.float32)
    factor = np.float32(2.0**100)
    p = p[np.abs(p.offset) < 3.0]
    huge = reference.Problems(p.normal * factor, p.offset * factor, p.nominal, p.lower, p.upper)
    for solver in ("exact", "projected_gradient"):
        expected, safe = run(FilterConfig(solver=solver), p), run(FilterConfig(solver=solver), huge)
        assert not np.any(safe.status == Status.FALLBACK)
        np.testing.assert_allclose(safe.command, expected.command, atol=ACCURACY[solver])
        assert np.isfinite(jacobian(FilterConfig(solver=solver), huge)).all()


def test_a_row_without_authority_keeps_the_gradient_of_the_nominal_command():
    for size in (0.0, 1e-38, 1e-20, 9e-4):
        p = reference.random_problems(100, seed=14)
        p = reference.Problems(
            p.normal / p.size[:, None] * size, np.ones_like(p.offset), p.nominal, p.lower, p.upper
        ).astype(np.float32)
        assert np.all(run(FilterConfig(), p).status == Status.NO_AUTHORITY)
        gradient = jacobian(FilterConfig(), p)
        inside = (p.nominal > p.lower) & (p.nominal < p.upper)
        np.testing.assert_array_equal(gradient[:, :3, 4:], np.eye(3) * inside[:, None, :])
        assert not gradient[:, :3, :4].any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_jit_vmap_and_a_python_loop_agree(solver):
    p = reference.random_problems(3, seed=15).astype(np.float32)
    apply = one(FilterConfig(solver=solver))
    if solver == "qpax":  # seconds per problem without compilation
        apply = jax.jit(apply)
    looped = [apply(*(jnp.asarray(x[i]) for x in fields(p))) for i in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *looped)
    batched = run(FilterConfig(solver=solver), p)
    np.testing.assert_allclose(batched.command, stacked.command, atol=ACCURACY[solver])
    np.testing.assert_allclose(batched.slack, stacked.slack, atol=1e-4)
    np.testing.assert_array_equal(batched.status, stacked.status)


def test_a_second_call_does_not_trace_again():
    safety_filter, traces = make_filter(FilterConfig()), []

    @jax.jit
    def counted(row, nominal):
        traces.append(None)
        limits = Limits(jnp.asarray(-LIMIT), jnp.asarray(LIMIT))
        return safety_filter(row, nominal, limits, jnp.zeros(3))

    for offset in (-1.0, 1.0, 100.0):
        counted(Row(jnp.array([1.0, 0.5, 0.2]), jnp.float32(offset)), jnp.zeros(3))
    assert len(traces) == 1
