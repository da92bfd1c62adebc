"""The quadratic slack penalty of the original's QP, against float64 bisection and central differences."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize

from drone_cbf.config import FilterConfig
from drone_cbf.safety import SLACK_TOLERANCE, Status
from tests.safety import reference
from tests.safety.harness import jacobian, run
from tests.safety.test_exact import COMMAND_TOLERANCE, EPSILON
from tests.safety.test_gradients import TOLERANCE, relative_error

SOLVERS = ("exact", "projected_gradient")


def config(penalty: float = 1000.0, solver: str = "exact") -> FilterConfig:
    return FilterConfig(solver=solver, penalty=penalty, slack_penalty="quadratic")


@pytest.fixture(scope="module")
def problems():
    """Of one size throughout, so that each filter is compiled for one shape."""
    return reference.concatenate(reference.adversarial_families(2_000, seed=20))


def away_from_kinks(problems, penalty, margin=1e-3):
    """Problems at which the solution is differentiable, and the authority left on the free axes is not small."""
    p = problems.astype(np.float64)
    solution = reference.solve_quadratic(p, penalty)
    at = reference.kinks(p, solution.multiplier, margin)
    norm = np.sqrt(np.sum(np.where(at.free, p.normal, 0.0) ** 2, axis=1))
    authority = (norm > reference.AUTHORITY) | ~at.free.any(axis=1)
    sane = np.abs(p.offset) < 1e3 * p.size
    moves = (at.slope < 0) | (at.one_largest & authority)  # max|a| itself moves the command
    return at.off_limits & sane & (np.abs(at.slope) > margin * p.size) & moves


def test_the_reference_agrees_with_a_general_purpose_optimiser():
    p = reference.random_problems(12, seed=5)
    p = reference.Problems(p.normal / p.size[:, None], p.offset / p.size, p.nominal, p.lower, p.upper)
    solution = reference.solve_quadratic(p, 20.0)
    for i in range(12):
        answer = minimize(
            lambda x, i=i: 0.5 * np.sum((x[:3] - p.nominal[i]) ** 2) + 10.0 * x[3] ** 2,
            np.append(np.clip(p.nominal[i], p.lower[i], p.upper[i]), 50.0),
            jac=lambda x, i=i: np.append(x[:3] - p.nominal[i], 20.0 * x[3]),
            bounds=[*zip(p.lower[i], p.upper[i], strict=True), (0.0, None)],
            constraints={"type": "ineq", "fun": lambda x, i=i: p.normal[i] @ x[:3] + x[3] - p.offset[i]},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(answer.x, np.append(solution.command[i], solution.slack[i]), atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("penalty", [1000.0, 1.0])
def test_command_slack_and_multiplier_match_the_float64_reference(solver, penalty, problems):
    solution = reference.solve_quadratic(problems, penalty)
    safe = run(config(penalty, solver), problems)
    assert np.sum(solution.slack > SLACK_TOLERANCE * problems.size) > 10_000
    assert np.abs(safe.command - solution.command).max() <= COMMAND_TOLERANCE
    rounding = 8 * EPSILON * np.abs(problems.offset)
    assert np.all(np.abs(safe.slack - solution.slack) <= COMMAND_TOLERANCE * problems.size + rounding)
    sane = np.abs(problems.offset) < 1e3 * problems.size
    np.testing.assert_allclose(safe.multiplier[sane], solution.multiplier[sane], rtol=1e-3, atol=5e-3 * penalty**0.5)
    assert not np.any(safe.status == Status.FALLBACK)


def test_double_precision_matches_the_reference_far_closer(double_precision):
    p = reference.concatenate(reference.adversarial_families(300, seed=1)).astype(np.float64)
    safe = run(config(), p)
    np.testing.assert_allclose(safe.command, reference.solve_quadratic(p, 1000.0).command, atol=1e-9)


@pytest.mark.parametrize(("solver", "penalty"), [("exact", 1000.0), ("exact", 1.0), ("projected_gradient", 1000.0)])
def test_gradient_towards_normal_offset_and_nominal_equals_central_differences(solver, penalty, double_precision):
    p = reference.concatenate(reference.adversarial_families(60, seed=0))
    p = p[away_from_kinks(p, penalty)].astype(np.float64)
    solution = reference.solve_quadratic(p, penalty)
    free = (solution.command > p.lower) & (solution.command < p.upper)
    acting = solution.slack > 0.0
    kinds = (
        ~acting,
        acting & free.all(axis=1),
        acting & ~free.all(axis=1) & free.any(axis=1),
        acting & ~free.any(axis=1),
    )
    assert min(np.sum(kind) for kind in kinds) >= 10, "too few problems of one kind are left"
    expected = reference.central_differences(p, penalty, solve=reference.solve_quadratic)
    error = relative_error(p, jacobian(config(penalty, solver), p), expected)
    assert error.max() <= TOLERANCE[solver]


def test_every_gradient_is_finite_and_bounded_by_the_authority(problems):
    gradient = jacobian(config(), problems)
    assert np.isfinite(gradient).all()
    solution = reference.solve_quadratic(problems, 1000.0)
    moved = np.linalg.norm(solution.command - problems.nominal, axis=1)
    length = np.linalg.norm(solution.command, axis=1)
    rounding, authority = 1.0 + 1e-3, FilterConfig().authority
    assert np.all(
        np.linalg.norm(gradient[:, :3, :3], 2, axis=(1, 2)) <= rounding * (length + 4.0 * moved + 1e-3) / authority
    )
    assert np.linalg.norm(gradient[:, :3, 3], axis=1).max() <= rounding / authority
    assert np.linalg.svd(gradient[:, :3, 4:], compute_uv=False).max() <= rounding


def test_no_step_on_which_the_filter_acts_is_without_slack_and_a_linear_penalty_cures_that():
    # Rows that braking meets with ease: what relaxes them is the penalty, not the row.
    p = reference.random_problems(8_000, seed=21).astype(np.float32)
    p = reference.Problems(p.normal / p.size[:, None], p.offset / p.size, p.nominal, p.lower, p.upper)
    nominal = np.einsum("ni,ni->n", p.normal, np.clip(p.nominal, p.lower, p.upper))
    easy = (p.offset > nominal + 0.5) & (p.offset < 0.9 * p.largest) & (np.abs(p.normal).min(axis=1) > 0.05)
    assert np.sum(easy) > 1_000
    quadratic, linear = run(config(), p), run(FilterConfig(), p)
    assert np.all(quadratic.status[easy] == Status.RELAXED) and np.all(quadratic.slack[easy] > SLACK_TOLERANCE)
    assert np.all(linear.status[easy] == Status.INTERVENED) and not linear.slack[easy].any()


def test_the_slack_is_the_multiplier_over_the_penalty():
    p = reference.random_problems(8_000, seed=22).astype(np.float32)
    for penalty in (1.0, 1000.0):
        safe = run(config(penalty), p)
        np.testing.assert_allclose(safe.slack / p.size, safe.multiplier / penalty, rtol=1e-3, atol=2e-5)


def test_the_interior_point_solver_refuses_a_quadratic_penalty_by_name():
    with pytest.raises(ValidationError, match="slack_penalty = quadratic is not solved by filter.solver = qpax; set"):
        FilterConfig(solver="qpax", slack_penalty="quadratic")
