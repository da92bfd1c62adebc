"""The solvers that the benchmark of the filter compares: ours, and peers of the extra ``bench`` where installed.

Each is built for a batch of problems and returns functions that are timed: commands, and where the solver has them the
gradients of |u|^2 with respect to nominal command and offset. Importing of peers happens when they are built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.filter_problems import LIMIT, PENALTY, Problems
from drone_cbf.config import FilterConfig
from drone_cbf.safety import Limits, Row, make_filter

LIMIT_PENALTY = 1e6
"""Where limits are elastic: weight of leaving them, above any multiplier."""

SMOOTHING = 1e-8
"""Of elastiqp's gradients; its default, 1e-3, gives those of another problem (222 of 256 off by more than 1e-3)."""


AUTHORITY = 1e-9
"""So small that ours bound no gradient of the benchmark's, as peers do not; by default they bound those above 1000."""


@dataclass(frozen=True)
class Calls:
    """What is timed, on one batch: computing alone, the inputs are where and as the solver wants them."""

    commands: Callable[[], Any]
    """() -> (n, 3)."""
    gradients: Callable[[], Any] | None
    """() -> by nominal command (n, 3) and by offset (n,); None where the solver has none."""
    unit: np.ndarray | float = 1.0
    """Of the offsets, where rows are scaled: (n,)."""

    def graded(self) -> np.ndarray:
        """The gradients with respect to nominal command and offset as given, (n, 4)."""
        assert self.gradients is not None
        by_nominal, by_offset = (np.asarray(part, float) for part in self.gradients())
        return np.column_stack([by_nominal, by_offset / self.unit])


Solver = Callable[[Problems], Calls]


def ours(name: str) -> Solver:
    """A solver of this project, float32, one compiled program for the whole batch."""

    def build(problems: Problems) -> Calls:
        safety_filter = make_filter(FilterConfig(solver=name, penalty=PENALTY, authority=AUTHORITY))
        limits = Limits(lower=jnp.asarray(-LIMIT, jnp.float32), upper=jnp.asarray(LIMIT, jnp.float32))
        fallback = jnp.zeros(3, jnp.float32)

        def command(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
            return safety_filter(Row(normal, offset), nominal, limits, fallback).command

        return compiled(command, problems, jnp.float32)

    return build


def elastiqp(problems: Problems) -> Calls:
    """Dual active set in C++, float64, called problem by problem from one compiled program; all rows are elastic."""
    import elastiqp.jax

    weights = jnp.array([PENALTY, *[LIMIT_PENALTY] * 6])

    def command(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
        rows = jnp.concatenate([-normal[None], jnp.eye(3), -jnp.eye(3)])
        bounds = jnp.concatenate([-offset[None], jnp.asarray(LIMIT), jnp.asarray(LIMIT)])
        return elastiqp.jax.solve(jnp.eye(3), -nominal, rows, bounds, weights, target_kappa=SMOOTHING).x

    return compiled(command, problems.scaled(), jnp.float64, problems.size())


def jaxopt_osqp(problems: Problems) -> Calls:
    """Operator splitting in JAX, float64, implicit gradients; unknowns are command and slack."""
    import jaxopt

    solver = jaxopt.OSQP(tol=1e-6, maxiter=4000)
    cost = jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0]))

    def command(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
        row = jnp.append(-normal, -1.0)
        slack = jnp.array([0.0, 0.0, 0.0, -1.0])
        rows = jnp.vstack([row, slack, jnp.eye(3, 4), -jnp.eye(3, 4)])
        bounds = jnp.concatenate([-offset[None], jnp.zeros(1), jnp.asarray(LIMIT), jnp.asarray(LIMIT)])
        linear = jnp.append(-nominal, PENALTY)
        return solver.run(params_obj=(cost, linear), params_ineq=(rows, bounds)).params.primal[:3]

    return compiled(command, problems.scaled(), jnp.float64, problems.size())


def compiled(command: Callable[..., jax.Array], problems: Problems, kind: Any, unit: Any = 1.0) -> Calls:
    """One program for the batch, and one with gradients; the solver's precision holds while they are called.

    ``unit``: of the offsets, where rows are scaled.
    """

    def squared(nominal: jax.Array, offset: jax.Array, normal: jax.Array) -> jax.Array:
        return jnp.sum(command(nominal, offset, normal) ** 2)

    with jax.enable_x64(kind == jnp.float64):
        inputs = [jnp.asarray(one, kind) for one in (problems.nominal, problems.offset, problems.normal)]

    def in_its_precision(function: Callable[..., Any]) -> Callable[[], Any]:
        program = jax.jit(jax.vmap(function))

        def call() -> Any:
            with jax.enable_x64(kind == jnp.float64):
                return jax.block_until_ready(program(*inputs))

        return call

    return Calls(in_its_precision(command), in_its_precision(jax.grad(squared, argnums=(0, 1))), unit)


def dense(problems: Problems) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As quadratic programs in (command, slack): cost matrix, linear costs (n, 4), rows (n, 8, 4), bounds (n, 8)."""
    scaled, n = problems.scaled(), len(problems.offset)
    linear = np.column_stack([-scaled.nominal, np.full(n, PENALTY)])
    rows = np.zeros((n, 8, 4))
    rows[:, 0, :3], rows[:, 0, 3], rows[:, 1, 3] = -scaled.normal, -1.0, -1.0
    rows[:, 2:5, :3], rows[:, 5:8, :3] = np.eye(3), -np.eye(3)
    bounds = np.column_stack([-scaled.offset, np.zeros(n), np.tile(np.concatenate([LIMIT, LIMIT]), (n, 1))])
    return np.diag([1.0, 1.0, 1.0, 0.0]), linear, rows, bounds


def clarabel(problems: Problems) -> Calls:
    """Interior point in Rust, float64, one call for each problem; has no gradients."""
    import clarabel as package
    from scipy import sparse

    cost, linear, rows, bounds = dense(problems)
    settings, quadratic = package.DefaultSettings(), sparse.csc_matrix(cost)
    settings.verbose = False

    def one(index: int) -> np.ndarray:
        cones = [package.NonnegativeConeT(8)]
        matrix = sparse.csc_matrix(rows[index])
        solver = package.DefaultSolver(quadratic, linear[index], matrix, bounds[index], cones, settings)
        return np.asarray(solver.solve().x)[:3]

    return Calls(lambda: np.stack([one(index) for index in range(len(linear))]), None)


def proxqp(problems: Problems) -> Calls:
    """Proximal augmented Lagrangian in C++ (proxsuite), float64, one call for each problem; gradients not asked for."""
    import proxsuite

    cost, linear, rows, bounds = dense(problems)

    def one(index: int) -> np.ndarray:
        found = proxsuite.proxqp.dense.solve(
            H=cost, g=linear[index], C=rows[index], l=np.full(8, -1e20), u=bounds[index], eps_abs=1e-6, eps_rel=0.0
        )
        return np.asarray(found.x)[:3]

    return Calls(lambda: np.stack([one(index) for index in range(len(linear))]), None)


SOLVERS: dict[str, Solver] = {
    "exact": ours("exact"),
    "projected_gradient": ours("projected_gradient"),
    "qpax": ours("qpax"),
    "elastiqp": elastiqp,
    "jaxopt OSQP": jaxopt_osqp,
    "clarabel": clarabel,
    "proxqp": proxqp,
}
"""``exact`` first: the others are given as ratios to it. cbfpy is not among them: it solves by qpax."""
