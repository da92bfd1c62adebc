"""Exact solution of the CBF-QP, without iterations and without sorting.

With growing lambda each axis of ``u(lambda) = clip(u_nom + lambda a, lower, upper)`` stays on one limit (if the nominal
command is beyond it), enters the box, moves freely, and stops at the other limit. So ``a.u(lambda)`` has at most six
breakpoints. The sign of ``b - a.u`` (less ``kappa lambda`` for a quadratic penalty) at each of them brackets the
solution on a segment that is linear in lambda.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

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


@struct.dataclass
class _Segment:
    """A piece of the path between breakpoints, on which ``a.u(lambda)`` is linear."""

    low: Scalar
    high: Scalar
    free: Bool[Array, "3"]  # Axes that move along it
    resting: Vector  # Limits on which the others rest [m/s^2]
    multiplier: Scalar  # At which the line through it meets the row; infinite if it does not


def _active_segment(problem: ScaledProblem, path: _Path) -> tuple[Vector, ActiveSet]:
    """Command and active set on the linear segment that contains the solution.

    It is looked for with plain sums, which may pick its neighbour if the solution is next to a breakpoint. The line
    through a segment, computed exactly, meets the row on it or shows on which side the solution is.
    """
    cap = problem.cap
    breakpoints = [jnp.clip(point[axis], 0.0, cap) for point in (path.entry, path.exit) for axis in range(3)]
    at_cap = jnp.stack([_coordinate(problem, path, cap, axis) for axis in range(3)])
    relaxed = dual_gradient(problem, at_cap, cap) > 0.0
    low = jnp.zeros_like(cap)
    for point in breakpoints:
        low = jnp.where(_plain_gradient(problem, path, point) > 0.0, jnp.maximum(low, point), low)
    low = jnp.where(relaxed, cap, low)
    found = _segment(problem, path, low, _next(breakpoints, low, cap))
    before = jnp.zeros_like(cap)
    for point in breakpoints:
        before = jnp.where(point < found.low, jnp.maximum(before, point), before)
    beyond, short = found.multiplier > found.high, found.multiplier < found.low
    low = jnp.where(beyond, found.high, jnp.where(short, before, found.low))
    high = jnp.where(short, found.low, _next(breakpoints, low, cap))
    found = _segment(problem, path, low, high)

    multiplier = jnp.where(relaxed, cap, jnp.clip(found.multiplier, found.low, found.high))
    command = jnp.where(found.free, problem.nominal + multiplier * problem.normal, found.resting)
    command = jnp.clip(command, problem.limits.lower, problem.limits.upper)
    return command, ActiveSet(free=found.free, binding=multiplier > 0.0, relaxed=relaxed, multiplier=multiplier)


def _coordinate(problem: ScaledProblem, path: _Path, multiplier: Scalar, axis: int) -> Scalar:
    """u(lambda) along one axis. At or past its breakpoint it is on its limit exactly: a rounding error would be
    amplified by the ratio of its coefficient to those of the free axes."""
    moving = problem.nominal[axis] + multiplier * problem.normal[axis]
    started = jnp.where(path.entry[axis] >= multiplier, path.start[axis], moving)
    return jnp.where(path.exit[axis] <= multiplier, path.end[axis], started)


def _plain_gradient(problem: ScaledProblem, path: _Path, multiplier: Scalar) -> Scalar:
    """``dual_gradient`` in working precision. Written coordinate by coordinate, which vectorises over a batch."""
    rest = problem.offset
    for axis in range(3):
        rest = rest - problem.normal[axis] * _coordinate(problem, path, multiplier, axis)
    return rest if problem.slack_per_multiplier is None else rest - problem.slack_per_multiplier * multiplier


def _next(breakpoints: list[Scalar], low: Scalar, cap: Scalar) -> Scalar:
    """The first breakpoint beyond ``low``, at most the cap."""
    high = cap
    for point in breakpoints:
        high = jnp.where(point > low, jnp.minimum(high, point), high)
    return high


def _segment(problem: ScaledProblem, path: _Path, low: Scalar, high: Scalar) -> _Segment:
    """From ``low`` to ``high``; solves ``a_F.(u_nom + lambda a)_F + a.resting (+ kappa lambda) = b`` for lambda."""
    wide = problem.limits.lower < problem.limits.upper
    free = wide & (path.entry <= low) & (path.exit >= high)
    resting = jnp.where(path.exit <= low, path.end, path.start)
    normal_free = jnp.where(free, problem.normal, 0.0)
    served = curvature(problem, jnp.sum(normal_free * normal_free))
    shortfall = row_residual(problem.normal, problem.offset, jnp.where(free, problem.nominal, resting))
    side = jnp.where(shortfall > 0.0, jnp.inf, -jnp.inf)
    multiplier = jnp.where(served > 0.0, shortfall / jnp.where(served > 0.0, served, 1.0), side)
    return _Segment(low=low, high=high, free=free, resting=resting, multiplier=multiplier)
