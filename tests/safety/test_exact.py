"""The exact and the iterated solver against float64 bisection, on 104,000 random and adversarial problems."""

import numpy as np
import pytest
from scipy.optimize import minimize

from drone_cbf.config import FilterConfig
from drone_cbf.safety import Status
from tests.safety import reference
from tests.safety.harness import jacobian, run

PENALTY = FilterConfig().penalty
COMMAND_TOLERANCE = 1e-4
"""[m/s^2]; the accuracy promised by ``exact.solve``. The largest error seen is 1e-5."""
EPSILON = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def families():
    return reference.adversarial_families(8_000, seed=0)


@pytest.fixture(scope="module")
def problems(families):
    return reference.concatenate(families)


def slack_tolerance(p):
    """The command's tolerance seen through the row, and the rounding of the row itself."""
    return COMMAND_TOLERANCE * p.size + 8 * EPSILON * np.abs(p.offset)


def test_the_reference_satisfies_the_optimality_conditions(families):
    for name, p in families.items():
        p = p[:200].astype(np.float64)
        solution = reference.solve(p, PENALTY)
        normal = p.normal / p.size[:, None]
        residual = np.einsum("ni,ni->n", normal, solution.command) + solution.slack / p.size - p.offset / p.size
        gradient = solution.command - p.nominal - solution.multiplier[:, None] * normal
        scale = 1e-9 * (1.0 + np.abs(p.offset / p.size))
        assert np.all(residual >= -scale), f"{name}: row"
        assert np.all(np.minimum(solution.multiplier, residual) <= scale), f"{name}: complementarity of the row"
        priced = np.minimum(PENALTY - solution.multiplier, solution.slack / p.size)
        assert np.all(priced <= scale), f"{name}: complementarity of the slack"
        assert np.all((gradient >= -1e-9) | (solution.command >= p.upper)), f"{name}: pushed down by the upper limit"
        assert np.all((gradient <= 1e-9) | (solution.command <= p.lower)), f"{name}: pushed up by the lower limit"


def test_the_reference_agrees_with_a_general_purpose_optimiser():
    p = reference.random_problems(12, seed=5)
    p = reference.Problems(p.normal / p.size[:, None], p.offset / p.size, p.nominal, p.lower, p.upper)
    solution = reference.solve(p, PENALTY)
    for i in range(12):
        answer = minimize(
            lambda x, i=i: 0.5 * np.sum((x[:3] - p.nominal[i]) ** 2) + PENALTY * x[3],
            np.append(np.clip(p.nominal[i], p.lower[i], p.upper[i]), 50.0),
            jac=lambda x, i=i: np.append(x[:3] - p.nominal[i], PENALTY),
            bounds=[*zip(p.lower[i], p.upper[i], strict=True), (0.0, None)],
            constraints={"type": "ineq", "fun": lambda x, i=i: p.normal[i] @ x[:3] + x[3] - p.offset[i]},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(answer.x[:3], solution.command[i], atol=1e-4)


@pytest.mark.parametrize("solver", ["exact", "projected_gradient"])
@pytest.mark.parametrize("penalty", [PENALTY, 1.0])
def test_command_and_slack_match_the_float64_reference(solver, penalty, problems):
    solution = reference.solve(problems, penalty)
    safe = run(FilterConfig(solver=solver, penalty=penalty), problems)
    assert len(solution.slack) >= 100_000
    assert np.abs(safe.command - solution.command).max() <= COMMAND_TOLERANCE
    assert np.all(np.abs(safe.slack - solution.slack) <= slack_tolerance(problems))
    assert not np.any(safe.status == Status.FALLBACK)


def test_double_precision_matches_the_reference_far_closer(double_precision):
    p = reference.concatenate(reference.adversarial_families(300, seed=1)).astype(np.float64)
    safe = run(FilterConfig(), p)
    assert safe.command.dtype == np.float64
    np.testing.assert_allclose(safe.command, reference.solve(p, PENALTY).command, atol=1e-9)


def test_multiplier_matches_the_reference_away_from_kinks(problems):
    chosen = problems[reference.smooth(problems, PENALTY)]
    for solver in ("exact", "projected_gradient"):
        safe = run(FilterConfig(solver=solver), chosen)
        np.testing.assert_allclose(safe.multiplier, reference.solve(chosen, PENALTY).multiplier, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", ["exact", "projected_gradient"])
def test_every_gradient_is_finite_and_bounded_by_the_authority(solver, problems):
    config = FilterConfig(solver=solver)
    gradient = jacobian(config, problems)
    assert np.isfinite(gradient).all()
    command, slack = gradient[:, :3], gradient[:, 3]
    solution = reference.solve(problems, PENALTY)
    moved = np.linalg.norm(solution.command - problems.nominal, axis=1)
    length = np.linalg.norm(solution.command, axis=1)
    rounding = 1.0 + 1e-3
    normal_bound = rounding * (length + 2.0 * moved + 1e-3) / config.authority
    assert np.all(np.linalg.norm(command[:, :, :3], 2, axis=(1, 2)) <= normal_bound)
    assert np.linalg.norm(command[:, :, 3], axis=1).max() <= rounding / config.authority
    assert np.linalg.svd(command[:, :, 4:], compute_uv=False).max() <= rounding
    assert np.all(np.linalg.norm(slack[:, :3], axis=1) <= rounding * (length + 4.0 * moved + 1e-3))
    assert np.all((slack[:, 3] >= 0.0) & (slack[:, 3] <= 1.0))


def test_rows_of_any_size_give_the_same_command():
    p = reference.random_problems(2_000, seed=3).astype(np.float32)
    unscaled = run(FilterConfig(), p)
    for factor in (0.5, 3.0, 1e4, 1e12):
        larger = reference.Problems(p.normal * factor, p.offset * factor, p.nominal, p.lower, p.upper)
        larger = larger.astype(np.float32)
        # Rounding the rescaled row moves it by one unit in the last place: 1e-6 m/s^2, times at most size / |a_F|.
        difference = np.abs(run(FilterConfig(), larger).command - unscaled.command).max(axis=1)
        assert np.median(difference) <= 1e-6
        assert np.quantile(difference, 0.99) <= COMMAND_TOLERANCE


def test_a_single_free_axis_with_a_small_coefficient_is_solved_to_tolerance():
    normal, offset, limit = np.float32([1.0, 0.7, 0.02]), np.float32(15.35), np.float32([9.0, 9.0, 7.0])
    p = reference.Problems(normal[None], offset[None], np.zeros((1, 3), np.float32), -limit[None], limit[None])
    first, second, last = normal.astype(np.float64)
    exact = (np.float64(offset) - 9.0 * first - 9.0 * second) / last
    np.testing.assert_allclose(run(FilterConfig(), p).command, [[9.0, 9.0, exact]], atol=1e-6)
