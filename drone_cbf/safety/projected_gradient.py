"""The CBF-QP by projected gradient ascent on its dual: the iterative alternative to ``exact``.

The dual function g is concave with ``g'(lambda) = b - a.u(lambda)``, whose Lipschitz constant is ``|a|^2`` (with a
quadratic penalty, less ``kappa lambda`` and plus ``kappa``). A step of the inverse constant from below never passes the
maximiser (Nesterov, Introductory Lectures on Convex Optimization, 2.2), but is slow when axes with large coefficients
are on their limits. Each iteration therefore also halves a bracket around the maximiser, which bounds the error.
"""

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.safety.dual import ScaledProblem, curvature, differentiable_solution, dual_gradient, scale_problem
from drone_cbf.safety.records import ActiveSet, Limits, Row, Solution

ITERATIONS = 40
"""The bracket shrinks to ``2 * penalty * 2^-40``: 2e-9 for the default penalty of 1000, 2e-6 for the largest, 1e6. The
error of an axis is at most that width times its scaled coefficient, which is below 2. With a quadratic penalty the
initial width is the largest slack that can be needed, divided by ``kappa``."""


@struct.dataclass
class _Bracket:
    """The maximiser lies in [low, high]; the row is not met at ``low``."""

    low: Scalar
    high: Scalar


def solve(
    row: Row, nominal: Vector, limits: Limits, *, penalty: float, authority: float, quadratic: bool = False
) -> Solution:
    """Like ``exact.solve``, to the accuracy of ``ITERATIONS`` steps, with the same KKT derivative."""
    problem = scale_problem(row, nominal, limits, penalty=penalty, authority=authority, quadratic=quadratic)
    stopped: ScaledProblem = jax.lax.stop_gradient(problem)
    start = _Bracket(low=jnp.zeros_like(stopped.cap), high=stopped.cap)
    bracket = jax.lax.fori_loop(0, ITERATIONS, lambda _, bracket: _iterate(stopped, bracket), start)
    met = _dual_gradient_at(stopped, jnp.zeros_like(stopped.cap)) <= 0.0
    # The row is met at the upper end.
    command, active = _active_set(stopped, jnp.where(met, 0.0, bracket.high))
    return differentiable_solution(problem, command, active, row)


def _moved(problem: ScaledProblem, multiplier: Scalar) -> Vector:
    return problem.nominal + multiplier * problem.normal


def _dual_gradient_at(problem: ScaledProblem, multiplier: Scalar) -> Scalar:
    """g'(lambda), the gradient of the dual."""
    command = jnp.clip(_moved(problem, multiplier), problem.limits.lower, problem.limits.upper)
    return dual_gradient(problem, command, multiplier)


def _iterate(problem: ScaledProblem, bracket: _Bracket) -> _Bracket:
    """One projected gradient step of the lower end, then one halving."""
    steepest = curvature(problem, jnp.sum(problem.normal * problem.normal))
    ascended = bracket.low + _dual_gradient_at(problem, bracket.low) / steepest
    low = jnp.clip(ascended, bracket.low, bracket.high)
    middle = 0.5 * (low + bracket.high)
    beyond = _dual_gradient_at(problem, middle) <= 0.0
    return _Bracket(low=jnp.where(beyond, low, middle), high=jnp.where(beyond, middle, bracket.high))


def _active_set(problem: ScaledProblem, multiplier: Scalar) -> tuple[Vector, ActiveSet]:
    moved = _moved(problem, multiplier)
    command = jnp.clip(moved, problem.limits.lower, problem.limits.upper)
    return command, ActiveSet(
        free=(moved > problem.limits.lower) & (moved < problem.limits.upper),
        binding=multiplier > 0.0,
        relaxed=_dual_gradient_at(problem, problem.cap) > 0.0,
        multiplier=multiplier,
    )
