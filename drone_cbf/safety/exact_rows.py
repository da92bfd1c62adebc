"""Exact solution of the CBF-QP with several rows, and its derivative: batches, polish and KKT conditions.

The working set is found in batches (``active_set``): under ``vmap``, however nested, all problems form one batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Vector
from drone_cbf.packing import as_one_batch, of_single, replaced_where
from drone_cbf.safety.active_set import ROUNDING, misses_any, solved, started
from drone_cbf.safety.compensated import less_products
from drone_cbf.safety.dual import scale_problem
from drone_cbf.safety.records import Limits, Row, Rows, RowsSolution
from drone_cbf.safety.working_point import Problems, apart, at
from drone_cbf.safety.working_set import Basis, Triple, WorkingSet, added, basis_of, only, triple

SMALLEST_BLOCK, BLOCKS = 32, 8
"""Problems that are solved together: an eighth of a batch, but not fewer than 32."""


@struct.dataclass
class ScaledRows:
    """One problem, or a batch; each row is divided by a power of two, so that its largest coefficient is in [1, 2)."""

    normal: Float[Array, "*batch k 3"]
    offset: Float[Array, "*batch k"]
    cap: Float[Array, "*batch k"]  # Largest multiplier
    scale: Float[Array, "*batch k"]  # Power of two by which a row was divided; no gradient
    nominal: Float[Array, "*batch 3"]  # [m/s^2]
    limits: Limits


@struct.dataclass
class Answer:
    """The solution with what its derivative needs; ``q`` and ``inverse`` as in :class:`Basis`."""

    command: Float[Array, "*batch 3"]
    multiplier: Float[Array, "*batch k"]  # In the unit of the scaled rows
    relaxed: Bool[Array, "*batch k"]
    free: Bool[Array, "*batch 3"]
    slots: Int[Array, "*batch 3"]  # Rows that are met with equality; -1 for none
    q: Float[Array, "*batch 3 3"]
    inverse: Float[Array, "*batch 3 3"]


def solve(rows: Rows, nominal: Vector, limits: Limits, *, penalty: float, authority: float) -> RowsSolution:
    """Minimise ``0.5 |u - nominal|^2 + sum_i penalty * slack_i`` subject to rows and limits (DESIGN 4, Filter).

    ``nominal`` (3,) [m/s^2]. ``penalty`` weights the slack of each row divided by its ``max|a|``, which must not be
    zero; the mask must hold for all. ``authority`` bounds the gradient (see :func:`differentiable`). In float32 the
    command is within 1e-4 m/s^2 of the float64 solution, unless rows that it meets are within 1e-3 rad of dependent.
    Differentiable with respect to ``rows`` and ``nominal``.
    """
    problem = scaled(rows, nominal, limits, penalty)
    answer = of_single(_solve_batch, None, jax.lax.stop_gradient(problem))
    return differentiable(problem, jax.lax.stop_gradient(answer), rows, authority)


def scaled(rows: Rows, nominal: Vector, limits: Limits, penalty: float) -> ScaledRows:
    """Each row divided by a power of two close to its ``max|a|``, as for one row (``dual.scale_problem``)."""

    def one(normal: Vector, offset: Float[Array, ""]) -> tuple[Array, ...]:
        row = Row(normal=normal, offset=offset)
        found = scale_problem(row, nominal, limits, penalty=penalty, authority=1.0, quadratic=False)
        return found.normal, found.offset, found.cap, found.scale

    normal, offset, cap, scale = jax.vmap(one)(rows.normal, rows.offset)
    limits = jax.lax.stop_gradient(limits)
    return ScaledRows(normal=normal, offset=offset, cap=cap, scale=scale, nominal=nominal, limits=limits)


@as_one_batch
def _solve_batch(_: None, batch: ScaledRows) -> Answer:
    """Solutions of a batch (leading axis): of those whose clipped nominal command meets all rows it is that command."""
    count, rows = batch.offset.shape
    block = max(SMALLEST_BLOCK, count // BLOCKS)
    if count <= block:
        return _solve_all(batch)
    problems = _transposed(batch)
    start = started(problems)
    passed = Answer(
        command=jnp.clip(batch.nominal, batch.limits.lower, batch.limits.upper),
        multiplier=jnp.zeros((count, rows), batch.offset.dtype),
        relaxed=jnp.zeros((count, rows), bool),
        free=jnp.stack(start.work.free, -1),
        slots=jnp.stack(start.work.row, -1),
        q=jnp.zeros((count, 3, 3), batch.offset.dtype),
        inverse=jnp.zeros((count, 3, 3), batch.offset.dtype),
    )
    return replaced_where(misses_any(problems, passed.command.T), _solve_all, batch, passed, block)


def _solve_all(batch: ScaledRows) -> Answer:
    """Solutions of a batch, which takes as many steps as its hardest problem."""
    problems = _transposed(batch)
    found = solved(problems)
    some = found.count > 0

    def point(basis: Basis) -> tuple[Triple, Triple]:
        there = at(problems, found.work, basis, _pull_exactly(problems, found.relaxed))
        return _polished(problems, found.work, basis, there.command), there.rows

    basis = apart(some, basis_of, found.work)
    command, of_slots = apart(some, point, basis)
    multiplier, places = jnp.where(found.relaxed, problems.cap, 0.0), jnp.arange(problems.offset.shape[0])[:, None]
    for row, value in zip(found.work.row, of_slots, strict=True):
        multiplier = jnp.where(places == row, jnp.clip(value, 0.0, problems.cap), multiplier)
    return Answer(
        command=jnp.stack(command, -1),
        multiplier=multiplier.T,
        relaxed=found.relaxed.T,
        free=jnp.stack(found.work.free, -1),
        slots=jnp.stack(found.work.row, -1),
        q=jnp.stack([jnp.stack(direction, -1) for direction in basis.directions], -2),
        inverse=jnp.stack([jnp.stack(row, -1) for row in basis.inverse], -2),
    )


def _transposed(batch: ScaledRows) -> Problems:
    """With the batch last."""
    lower, upper = batch.limits.lower.T, batch.limits.upper.T
    x, y, z = jnp.moveaxis(batch.normal, (2, 1), (0, 1))
    largest = jnp.maximum(jnp.abs(lower), jnp.abs(upper))
    size = jnp.abs(batch.offset.T) + jnp.abs(x) * largest[0] + jnp.abs(y) * largest[1] + jnp.abs(z) * largest[2]
    return Problems(
        normal=(x, y, z),
        offset=batch.offset.T,
        cap=batch.cap.T,
        tolerance=ROUNDING * jnp.finfo(size.dtype).eps * size,
        nominal=triple(batch.nominal.T),
        lower=triple(lower),
        upper=triple(upper),
    )


def _pull_exactly(problems: Problems, relaxed: Bool[Array, "k n"]) -> Triple:
    """``pull`` with a rounding of its result only: what opposed rows at large caps leave over is small against them."""
    weight = jnp.where(relaxed, -problems.cap, 0.0)
    x, y, z = (
        less_products(nominal, list(zip(weight, normal, strict=True)))
        for nominal, normal in zip(problems.nominal, problems.normal, strict=True)
    )
    return x, y, z


def _polished(problems: Problems, work: WorkingSet, basis: Basis, command: Triple) -> Triple:
    """``command`` corrected, by what it misses in twice the working precision, and within the limits."""
    for _ in range(2):
        missing = [
            less_products(offset, list(zip(normal, command, strict=True)))
            for offset, normal in zip(work.offset, work.normal, strict=True)
        ]
        correction = basis.along(basis.meeting((missing[0], missing[1], missing[2])))
        command = added(command, only(work.free, correction), 1.0)
    x, y, z = map(jnp.clip, command, problems.lower, problems.upper)
    return x, y, z


def differentiable(problem: ScaledRows, answer: Answer, rows: Rows, authority: float) -> RowsSolution:
    """Attach the derivative of the KKT conditions to an ``answer`` computed without derivatives.

    With W the rows met with equality, A their normals on the free axes F, A^+ its pseudo-inverse, P = I - A^+ A, and R
    the relaxed rows, du = 0 on the axes that rest on a limit, and

        du_F = P (du_nom + sum_W lambda_i da_i + sum_R (cap_i da_i + a_i dcap_i))_F + A^+ (db - da u)_W

    Towards the rows it grows like 1 / (the smallest singular value of A). It is exact while the Frobenius norm of A^+,
    of the rows as given, is at most ``1 / authority``, and fades beyond. So |du/du_nom| <= 1, |du/db| <= 1 /
    authority, and |du/da| is bounded by (|u| + 2 |u - u_nom|) / authority where no row is relaxed, else by penalty /
    authority as well. First derivatives only.
    """
    stopped: ScaledRows = jax.lax.stop_gradient(problem)
    # Zero in value with identity derivative: the linear map below becomes the derivative of the command.
    change = jax.tree.map(lambda x, constant: x - constant, problem, stopped)
    chosen = (answer.slots[:, None] == jnp.arange(stopped.offset.shape[0])).astype(stopped.normal.dtype)
    met, relaxed = _weights(stopped, answer, chosen, authority)
    weight = jnp.where(answer.relaxed, relaxed, met) * answer.multiplier
    moved = change.nominal + weight @ change.normal
    moved = moved + jnp.where(answer.relaxed, change.cap, 0.0) @ stopped.normal
    moved = jnp.where(answer.free, moved, 0.0)
    missing = met * (chosen @ (change.offset - change.normal @ answer.command))
    step = moved - answer.q.T @ (answer.q @ moved) + answer.q.T @ (answer.inverse.T @ missing)
    command = answer.command + jnp.where(answer.free, step, 0.0)
    missed = jnp.maximum(rows.offset - rows.normal @ command, 0.0)
    size = jnp.max(jnp.abs(stopped.normal), axis=-1)
    return RowsSolution(
        command=command, slack=jnp.where(answer.relaxed, missed, 0.0), multiplier=answer.multiplier * size
    )


def _weights(
    problem: ScaledRows, answer: Answer, chosen: Float[Array, "3 k"], authority: float
) -> tuple[Float[Array, ""], Float[Array, "k"]]:
    """Of the derivative towards rows that are met, and towards each if it is relaxed: 1, and less below authority."""
    columns = jnp.sum(answer.inverse**2, axis=-1)  # Squared norms of A^+'s columns
    columns = columns / jnp.where(answer.slots >= 0, chosen @ problem.scale, 1.0) ** 2
    squared = authority * authority * jnp.sum(jnp.where(answer.slots >= 0, columns, 0.0))
    free = jnp.sum(jnp.where(answer.free, problem.normal, 0.0) ** 2, axis=-1)
    floor = (authority / problem.scale) ** 2
    relaxed = jnp.where(free < floor, free / jnp.where(free < floor, floor, 1.0), 1.0)
    return 1.0 / jnp.maximum(squared, 1.0), relaxed
