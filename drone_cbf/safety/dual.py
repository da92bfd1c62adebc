"""The one-dimensional dual of the CBF-QP, shared by the exact and the iterative solver.

For multiplier lambda the minimiser is ``u(lambda) = clip(u_nom + lambda a, lower, upper)``, and ``a.u(lambda)`` is
continuous, piecewise linear and non-decreasing. The solution is the smallest lambda in [0, cap] with
``a.u(lambda) >= b``, or the cap, at which the L1 penalty admits slack (Boyd and Vandenberghe, Convex Optimization,
5.5). With a quadratic penalty the slack is ``kappa lambda`` with kappa > 0; the solution of ``a.u(lambda) + kappa
lambda = b`` always exists, and the left side is again piecewise linear.

Notation: a = normal, b = offset, u = command, F = axes on which u is on no limit, kappa = slack_per_multiplier.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, largest_entry
from drone_cbf.safety.compensated import less_products
from drone_cbf.safety.records import ActiveSet, Limits, Row, Solution

NEGLIGIBLE = 1e-12
"""Scaled coefficients below this are treated as zero: they change a command by at most penalty * 1e-12 <= 1e-6 m/s^2.
Above it ``|a_F|^2`` does not underflow in float32."""
LARGEST_OFFSET = 1e30
"""Bound on scaled offsets: far beyond any achievable ``a.u``, without overflow of their sums in float32."""


@struct.dataclass
class ScaledProblem:
    """The QP with its row divided by a power of two, exactly, so that the largest coefficient is in [1, 2)."""

    normal: Vector
    offset: Scalar
    nominal: Vector  # (3,) [m/s^2]
    limits: Limits
    cap: Scalar
    """Largest multiplier, penalty * scale / max|a|; its gradient accounts for ``max|a|`` in the weight of the slack.
    With a quadratic penalty it is only an upper bound, without gradient."""
    slack_per_multiplier: Scalar | None
    """kappa = (max|a| / scale)^2 / penalty with a quadratic penalty; None with a linear one."""
    scale: Scalar  # Power of two by which the row was divided; no gradient
    floor: Scalar  # Norm of ``a_F`` below which gradients with respect to the row fade, authority / scale


def scale_problem(
    row: Row, nominal: Vector, limits: Limits, *, penalty: float, authority: float, quadratic: bool
) -> ScaledProblem:
    """Divide ``row`` by a power of two close to ``max|a|``, which must not be zero; ``quadratic`` selects the penalty.

    ``penalty`` weights the slack of the row divided by ``max|a|``, so rescaling a row does not change the command.
    Without scaling, ``1/|a|^4`` in the gradient overflows for small rows. Limits carry no gradient.
    """
    magnitude = largest_entry(jnp.abs(row.normal))
    _, exponent = jnp.frexp(jax.lax.stop_gradient(magnitude))
    scale = jnp.ldexp(jnp.ones_like(magnitude), exponent - 1)
    normal = row.normal / scale
    # Subtract instead of overwriting, so that a zero coefficient keeps its gradient.
    negligible = jax.lax.stop_gradient(jnp.where(jnp.abs(normal) < NEGLIGIBLE, normal, 0.0))
    problem = ScaledProblem(
        normal=normal - negligible,
        offset=jnp.clip(row.offset / scale, -LARGEST_OFFSET, LARGEST_OFFSET),
        nominal=nominal,
        limits=jax.lax.stop_gradient(limits),
        # Not scale / magnitude: its derivative holds 1 / magnitude^2, which overflows.
        cap=penalty * (1.0 / (magnitude / scale)),
        slack_per_multiplier=None,
        scale=scale,
        floor=authority / scale,
    )
    return _with_quadratic_penalty(problem, magnitude / scale, penalty) if quadratic else problem


def _with_quadratic_penalty(problem: ScaledProblem, magnitude: Scalar, penalty: float) -> ScaledProblem:
    """``problem`` with kappa, and with a cap from kappa lambda <= b - a.u(0), doubled to allow for rounding."""
    slack_per_multiplier = magnitude * magnitude / penalty
    clipped = jnp.clip(problem.nominal, problem.limits.lower, problem.limits.upper)
    at_most = jnp.maximum(row_residual(problem.normal, problem.offset, clipped), 0.0)
    return problem.replace(
        slack_per_multiplier=slack_per_multiplier, cap=jax.lax.stop_gradient(2.0 * at_most / slack_per_multiplier)
    )


def dual_gradient(
    problem: ScaledProblem, command: Float[Array, "*batch 3"], multiplier: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Gradient of the dual: the row's residual at ``command``, less the slack at ``multiplier``."""
    rest = row_residual(problem.normal, problem.offset, command)
    return rest if problem.slack_per_multiplier is None else rest - problem.slack_per_multiplier * multiplier


def curvature(problem: ScaledProblem, squared: Scalar) -> Scalar:
    """Increase of the row's left side per multiplier (negative dual curvature), with ``squared`` = |a_F|^2."""
    return squared if problem.slack_per_multiplier is None else squared + problem.slack_per_multiplier


def row_residual(normal: Vector, offset: Scalar, command: Float[Array, "*batch 3"]) -> Float[Array, "*batch"]:
    """``b - a.u`` computed as if in twice the working precision and rounded. Not differentiable.

    If only an axis with a small coefficient is free, an error of ``b - a.u`` is amplified in ``u`` by ``1/|a_F|``;
    plain float32 sums would cost 1e-3 m/s^2.
    """
    return less_products(offset, [(normal[axis], command[..., axis]) for axis in range(3)])


def differentiable_solution(problem: ScaledProblem, command: Vector, active: ActiveSet, row: Row) -> Solution:
    """Attach the derivative of the KKT conditions to a solution computed without derivatives.

    On the active set, with P = I - a_F a_F' / |a_F|^2,

        du_F = P (du_nom + lambda da)_F + a_F (db - u.da) / |a_F|^2        row met with equality
        du_F = (du_nom + lambda da)_F + a_F dcap                           row relaxed, lambda = cap
        du_F = (du_nom)_F                                                  row not binding

    With a quadratic penalty |a_F|^2 + kappa stands for |a_F|^2 (in P as well), and db - u.da - lambda dkappa for
    db - u.da; the row is never relaxed at a cap. In all cases du = 0 on the axes that rest on a limit. The derivative
    towards the row grows like ``1/|a_F|``. It is exact while ``|a_F|`` (of the row as given) is at least ``authority``
    and fades below: then the axes that are left have no authority over the row. So, whatever the input,
    ``|du/du_nom| <= 1``, ``|du/db| <= 1 / authority`` and ``|du/da| <= (|u| + 2 |u - u_nom|) / authority`` (quadratic:
    4 for 2). First derivatives only.
    """
    stopped: ScaledProblem = jax.lax.stop_gradient(problem)
    command, active = jax.lax.stop_gradient((command, active))
    # Zero in value with identity derivative: the linear map below becomes the derivative of the command.
    change = jax.tree.map(lambda x, constant: x - constant, problem, stopped)
    normal_free = jnp.where(active.free, stopped.normal, 0.0)
    squared = jnp.sum(normal_free * normal_free)
    weight = _fade(squared, stopped.floor * stopped.floor)
    moved = change.nominal + weight * active.multiplier * change.normal
    shortfall = weight * (change.offset - jnp.dot(command, change.normal)) - jnp.dot(normal_free, moved)
    if problem.slack_per_multiplier is not None:
        shortfall = shortfall - active.multiplier * change.slack_per_multiplier
    served = curvature(stopped, squared)
    multiplier_change = jnp.where(active.relaxed, change.cap, shortfall / jnp.where(served > 0.0, served, 1.0))
    step = moved + jnp.where(active.binding, normal_free * multiplier_change, 0.0)
    command = command + jnp.where(active.free, step, 0.0)
    missed = jnp.maximum(row.offset - jnp.dot(row.normal, command), 0.0)
    gives_way = active.relaxed if problem.slack_per_multiplier is None else active.binding
    return Solution(
        command=command,
        slack=jnp.where(gives_way, missed, 0.0),
        multiplier=active.multiplier * jax.lax.stop_gradient(jnp.max(jnp.abs(stopped.normal))),
    )


def _fade(squared: Scalar, squared_floor: Scalar) -> Scalar:
    """1 above the floor, falling to zero with ``squared`` below it."""
    below = squared < squared_floor
    return jnp.where(below, squared / jnp.where(below, squared_floor, 1.0), 1.0)
