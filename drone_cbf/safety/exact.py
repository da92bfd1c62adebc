"""Exact solution of the CBF-QP, without iterations and without sorting.

With growing lambda each axis of ``u(lambda) = clip(u_nom + lambda a, lower, upper)`` stays on one limit (if the nominal
command is beyond it), enters the box, moves freely, and stops at the other limit. So ``a.u(lambda)`` has at most six
breakpoints. The sign of ``b - a.u`` (less ``kappa lambda`` for a quadratic penalty) at each of them brackets the
solution on a segment that is linear in lambda.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.safety.dual import (
    ScaledProblem,
    curvature,
    differentiable_solution,
    dual_gradient,
    row_residual,
    scale_problem,
)
from drone_cbf.safety.records import ActiveSet, Limits, Row, Solution


@struct.dataclass
class _Path:
    """The path of the command with growing multiplier, per axis."""

    start: Vector  # Limit (3,) from which the axis starts [m/s^2]
    end: Vector  # Limit (3,) at which the axis stops [m/s^2]
    entry: Vector  # Multiplier (3,) at which the axis leaves ``start``; not positive unless the nominal is beyond it
    exit: Vector  # Multiplier (3,) at which the axis reaches ``end``


def solve(
    row: Row, nominal: Vector, limits: Limits, *, penalty: float, authority: float, quadratic: bool = False
) -> Solution:
    """Minimise ``0.5 |u - nominal|^2 + penalty * slack`` subject to the row and the limits (DESIGN 4, Filter).

    ``nominal`` (3,) [m/s^2]. ``penalty`` weights the slack of the row divided by ``max|a|``, which must not be zero
    (``quadratic``: half its square). ``authority`` bounds the gradient (see ``differentiable_solution``). In float32
    the command is within 1e-4 m/s^2 of the float64 solution. Differentiable with respect to ``row`` and ``nominal``.
    """
    problem = scale_problem(row, nominal, limits, penalty=penalty, authority=authority, quadratic=quadratic)
    stopped: ScaledProblem = jax.lax.stop_gradient(problem)
    command, active = _active_segment(stopped, _path(stopped))
    return differentiable_solution(problem, command, active, row)


def _path(problem: ScaledProblem) -> _Path:
    rising = problem.normal >= 0.0
    start = jnp.where(rising, problem.limits.lower, problem.limits.upper)
    end = jnp.where(rising, problem.limits.upper, problem.limits.lower)
    still = problem.normal == 0.0
    slope = jnp.where(still, 1.0, problem.normal)
    to_start, to_end = start - problem.nominal, end - problem.nominal
    return _Path(
        start=start,
        end=end,
        # An axis with zero coefficient stays at the clipped nominal for every multiplier.
        entry=jnp.where(still, jnp.where(to_start > 0.0, jnp.inf, -jnp.inf), to_start / slope),
        exit=jnp.where(still, jnp.where(to_end >= 0.0, jnp.inf, -jnp.inf), to_end / slope),
    )


def _command_at(problem: ScaledProblem, path: _Path, multiplier: Float[Array, "n"]) -> Float[Array, "n 3"]:
    """u(lambda) for each multiplier. An axis at or past its breakpoint is set to its limit exactly: a rounding error
    would be amplified by the ratio of its coefficient to those of the free axes."""
    along = multiplier[:, None]
    moving = problem.nominal + along * problem.normal
    return jnp.where(path.exit <= along, path.end, jnp.where(path.entry >= along, path.start, moving))


def _active_segment(problem: ScaledProblem, path: _Path) -> tuple[Vector, ActiveSet]:
    """Command and active set on the linear segment that contains the solution."""
    breakpoints = jnp.concatenate([path.entry, path.exit, problem.cap[None]])
    breakpoints = jnp.clip(breakpoints, 0.0, problem.cap)
    short = dual_gradient(problem, _command_at(problem, path, breakpoints), breakpoints)
    relaxed = short[-1] > 0.0
    low = jnp.max(jnp.where(short > 0.0, breakpoints, 0.0))
    high = jnp.min(jnp.where(breakpoints > low, breakpoints, problem.cap))

    wide = problem.limits.lower < problem.limits.upper
    free = wide & (path.entry <= low) & (path.exit >= high)
    resting = jnp.where(path.exit <= low, path.end, path.start)
    multiplier = _multiplier_on(problem, free, resting)
    multiplier = jnp.where(relaxed, problem.cap, jnp.clip(multiplier, low, high))
    command = jnp.where(free, problem.nominal + multiplier * problem.normal, resting)
    command = jnp.clip(command, problem.limits.lower, problem.limits.upper)
    return command, ActiveSet(free=free, binding=multiplier > 0.0, relaxed=relaxed, multiplier=multiplier)


def _multiplier_on(problem: ScaledProblem, free: Array, resting: Vector) -> Scalar:
    """Solve ``a_F.(u_nom + lambda a)_F + a.resting (+ kappa lambda) = b`` for lambda."""
    normal_free = jnp.where(free, problem.normal, 0.0)
    squared = jnp.sum(normal_free * normal_free)
    shortfall = row_residual(problem.normal, problem.offset, jnp.where(free, problem.nominal, resting))
    served = curvature(problem, squared)
    return shortfall / jnp.where(served > 0.0, served, 1.0)
