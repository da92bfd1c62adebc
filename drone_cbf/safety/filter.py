"""The safety filter of one drone: from nominal command and row to an admissible command."""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import FilterConfig
from drone_cbf.safety import exact, projected_gradient, qpax_solver
from drone_cbf.safety.dual import row_residual
from drone_cbf.safety.edges import GRADIENTS, clipped, in_range, sanitised, select, with_fallback
from drone_cbf.safety.records import RELATIVE_SLACK, SLACK_TOLERANCE, Limits, Row, SafeCommand, Solution, Status

Filter = Callable[[Row, Vector, Limits, Vector], SafeCommand]
"""``(row, nominal (3,), limits, fallback (3,)) -> SafeCommand``, commands in m/s^2, world frame."""


@runtime_checkable
class Solver(Protocol):
    """Solves a QP whose row has authority and is violated at the clipped nominal command; inputs are in range."""

    def __call__(
        self, row: Row, nominal: Vector, limits: Limits, *, penalty: float, authority: float, quadratic: bool = False
    ) -> Solution: ...


_SOLVERS: dict[str, Solver] = {
    "exact": exact.solve,
    "qpax": qpax_solver.solve,
    "projected_gradient": projected_gradient.solve,
}


def make_filter(config: FilterConfig) -> Filter:
    """Build the filter of one drone, for use under ``jit``, ``grad`` and ``vmap``.

    The command minimises ``0.5 |u - nominal|^2 + penalty * slack`` subject to ``a.u + slack >= b``, ``slack >= 0``
    and the limits, where ``penalty`` weights the slack of the row divided by ``max|a|`` (DESIGN 4, Filter). Slack is
    zero whenever an admissible command meets the row with a multiplier below the penalty. Otherwise only axes with
    coefficients below ``max|a| * |u - nominal| / penalty`` remain free, and the violation is of that order. With a
    quadratic ``config.slack_penalty`` the cost is ``0.5 * penalty * slack^2``, and slack = multiplier / penalty is
    positive whenever the filter acts.

    If an input is not finite or out of range (``records.LARGEST_COMMAND``, ``LARGEST_ROW``), or the result is not
    finite, the fallback is used: a finite braking command within the limits, without gradient. Whatever a solver says,
    a row that the command misses counts as relaxed. Otherwise gradients follow ``config.gradient``:

    - ``full``: of command and slack with respect to nominal, normal and offset; finite and bounded for ``exact`` and
      ``projected_gradient`` (``dual.differentiable_solution``); for ``qpax`` finite, and zero where its own is not;
    - ``identity``: the identity from nominal to command; none with respect to the row;
    - ``stopped``: none.
    """
    solver = functools.partial(_SOLVERS[config.solver], quadratic=config.slack_penalty == "quadratic")
    shape_gradient = GRADIENTS[config.gradient]

    def safe_command(row: Row, nominal: Vector, limits: Limits, fallback: Vector) -> SafeCommand:
        usable = in_range(row, nominal, limits)
        row, nominal, limits = sanitised(usable, row, nominal, limits)
        result = _filter_in_range(config, solver, row, nominal, limits)
        result = shape_gradient(result, nominal)
        return with_fallback(usable, result, fallback)

    return safe_command


def _filter_in_range(config: FilterConfig, solver: Solver, row: Row, nominal: Vector, limits: Limits) -> SafeCommand:
    """The filter for inputs in range."""
    passed = clipped(nominal, limits)
    missed = row_residual(*jax.lax.stop_gradient((row.normal, row.offset, passed))) > 0.0
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(row.normal)))
    authority = size >= config.authority
    enforced = missed & authority

    # If the solution is not used, solve a benign problem: a NaN in the branch that ``where`` does not select would
    # still reach the gradient.
    harmless = Row(normal=jnp.eye(3, dtype=row.normal.dtype)[0], offset=limits.lower[0] - 1.0)
    solution = solver(
        select(enforced, row, harmless), nominal, limits, penalty=config.penalty, authority=config.authority
    )
    command = jnp.where(enforced, solution.command, passed)
    slack_passed = jnp.where(missed, jnp.maximum(row.offset - jnp.dot(row.normal, passed), 0.0), 0.0)
    slack = _honest(jnp.where(enforced, solution.slack, slack_passed), row, command, RELATIVE_SLACK * size)
    status = jnp.select(
        [~missed, ~authority, slack > jnp.minimum(SLACK_TOLERANCE, RELATIVE_SLACK * size)],
        [Status.NOMINAL, Status.NO_AUTHORITY, Status.RELAXED],
        Status.INTERVENED,
    )
    return SafeCommand(
        command=command,
        slack=slack,
        multiplier=jnp.where(enforced, solution.multiplier, 0.0),
        status=status.astype(jnp.int32),
    )


def _honest(slack: Scalar, row: Row, command: Vector, tolerance: Scalar) -> Scalar:
    """``slack``, or by how much ``command`` misses ``row`` if that is more by ``tolerance``; then without gradient."""
    row, command = jax.lax.stop_gradient((row, command))
    short = row.offset - jnp.dot(row.normal, command)
    return jnp.where(short > slack + tolerance, short, slack)
