"""The safety filter with several rows: from nominal command and rows to one admissible command."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Vector
from drone_cbf.config import FilterConfig
from drone_cbf.errors import ConfigError
from drone_cbf.safety import exact_rows, qpax_rows
from drone_cbf.safety.dual import row_residual
from drone_cbf.safety.edges import GRADIENTS, clipped, in_range, sanitised, with_fallback
from drone_cbf.safety.records import RELATIVE_SLACK, SLACK_TOLERANCE, Limits, Rows, RowsSolution, SafeCommands, Status

RowsFilter = Callable[[Rows, Vector, Limits, Vector], SafeCommands]
"""``(rows, nominal (3,), limits, fallback (3,)) -> SafeCommands``, commands in m/s^2, world frame."""


@runtime_checkable
class RowsSolver(Protocol):
    """Solves a QP whose rows all have authority; inputs are in range."""

    def __call__(
        self, rows: Rows, nominal: Vector, limits: Limits, *, penalty: float, authority: float
    ) -> RowsSolution: ...


_SOLVERS: dict[str, RowsSolver] = {"exact": exact_rows.solve, "qpax": qpax_rows.solve}


def make_rows_filter(config: FilterConfig) -> RowsFilter:
    """Build the filter of one drone under any fixed number of rows, for use under ``jit``, ``grad`` and ``vmap``.

    As :func:`make_filter`, with a slack for each row: the command minimises ``0.5 |u - nominal|^2 + sum_i penalty *
    slack_i``, where ``penalty`` weights the slack of each row divided by its ``max|a|`` (DESIGN 4, Filter). Rows below
    ``config.authority`` are not enforced, masked rows do not count. Where no admissible command meets all rows, slack
    goes to few of them; what a row gives up costs the same, so one that is given twice weighs twice.

    Raises:
        ConfigError: ``config`` asks for what only one row has: the solver ``projected_gradient``, quadratic slack.
    """
    if config.solver not in _SOLVERS:
        allowed = " or ".join(_SOLVERS)
        raise ConfigError(f"filter.solver = {config.solver} takes a single row; with several set it to {allowed}")
    if config.slack_penalty != "linear":
        wrong = f"filter.slack_penalty = {config.slack_penalty} is for a single row"
        raise ConfigError(f"{wrong}; with several set it to linear")
    solver, shape_gradient = _SOLVERS[config.solver], GRADIENTS[config.gradient]

    def safe_commands(rows: Rows, nominal: Vector, limits: Limits, fallback: Vector) -> SafeCommands:
        rows = _without(rows, ~rows.mask)
        usable = in_range(rows, nominal, limits)
        rows, nominal, limits = sanitised(usable, rows, nominal, limits)
        result = _filter_in_range(config, solver, rows, nominal, limits)
        return with_fallback(usable, shape_gradient(result, nominal), fallback)

    return safe_commands


def _without(rows: Rows, left_out: Bool[Array, "k"], offset: Float[Array, ""] | float = 0.0) -> Rows:
    """The rows, those that are ``left_out`` replaced by the row (1, 0, 0) . u >= ``offset``, without gradient."""
    along_x = jnp.eye(3, dtype=rows.normal.dtype)[0]
    return rows.replace(
        normal=jnp.where(left_out[:, None], along_x, rows.normal), offset=jnp.where(left_out, offset, rows.offset)
    )


def _filter_in_range(
    config: FilterConfig, solver: RowsSolver, rows: Rows, nominal: Vector, limits: Limits
) -> SafeCommands:
    """The filter for inputs in range."""
    passed = clipped(nominal, limits)
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(rows.normal)), axis=-1)
    authority = rows.mask & (size >= config.authority)
    missed = rows.mask & (_residuals(rows, passed) > 0.0)
    acts = jnp.any(missed & authority)
    # What is not enforced becomes a row that every command meets: a NaN in a branch that ``where`` does not select
    # would still reach the gradient.
    enforced = _without(rows, ~authority, limits.lower[0] - 1.0)
    solution = solver(enforced, nominal, limits, penalty=config.penalty, authority=config.authority)
    command = jnp.where(acts, solution.command, passed)
    left = jnp.maximum(rows.offset - rows.normal @ command, 0.0)
    slack = jnp.where(authority, jnp.where(acts, solution.slack, 0.0), left)
    slack = jnp.where(rows.mask, _honest(slack, rows, command, RELATIVE_SLACK * size), 0.0)
    return SafeCommands(
        command=command,
        slack=slack,
        multiplier=jnp.where(acts & authority, solution.multiplier, 0.0),
        status=_status(slack, size, missed, authority),
    )


def _residuals(rows: Rows, command: Vector) -> Float[Array, "k"]:
    """``b - a.u`` of each row, without gradient."""
    stopped = jax.lax.stop_gradient((rows.normal, rows.offset, command))
    return jax.vmap(row_residual, in_axes=(0, 0, None))(*stopped)


def _honest(slack: Float[Array, "k"], rows: Rows, command: Vector, tolerance: Float[Array, "k"]) -> Float[Array, "k"]:
    """``slack``, or by how much ``command`` misses a row if that is more by ``tolerance``; then without gradient."""
    rows, command = jax.lax.stop_gradient((rows, command))
    short = rows.offset - rows.normal @ command
    return jnp.where(short > slack + tolerance, short, slack)


def _status(
    slack: Float[Array, "k"], size: Float[Array, "k"], missed: Bool[Array, "k"], authority: Bool[Array, "k"]
) -> Int[Array, ""]:
    """The worst of the rows, as for one (:func:`make_filter`)."""
    given = slack > jnp.minimum(SLACK_TOLERANCE, RELATIVE_SLACK * size)
    status = jnp.select(
        [jnp.any(given & authority), jnp.any(missed & ~authority), ~jnp.any(missed)],
        [Status.RELAXED, Status.NO_AUTHORITY, Status.NOMINAL],
        Status.INTERVENED,
    )
    return status.astype(jnp.int32)
