"""The CBF-QP by the interior-point method of ``qpax``: the general solver, and a peer for the exact one.

Only the implicit backend is used. In qpax 0.1.4 the default backend's gradient with respect to the constraint matrix
is wrong (the dual variable enters twice), and that matrix holds the row, where the barrier's gradient enters.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float
from qpax import solve_qp_primal

from drone_cbf.arrays import Scalar, Vector, largest_entry, ravel_leaves
from drone_cbf.safety.records import SLACK_TOLERANCE, Limits, Row, Solution

MAX_ITERATIONS = 30  # Iterations of qpax for the solution, and again for its gradient; 15 are typical
TOLERANCE = {"float32": 1e-6, "float64": 1e-10}
"""Largest KKT residual of the scaled problem, and complementarity at which the gradient is taken. In float32 a tenth of
it is not reached, and ten times as much costs 1e-3 m/s^2 in the command and 1e-2 in the gradient."""
BEYOND_REACH = 4.0
"""Bound on scaled offsets. ``a.u`` cannot exceed 3, so the command is unaffected, and a large slack of an infeasible
row does not reduce the float32 precision of the other variables."""
NARROW = 1e-6  # Limits closer together than this [m/s^2] leave an axis no room
LARGEST_GRADIENT = 1e24
"""Beyond any gradient of a scaled problem, rows of 1e16 included; products with what they are scaled by do not
overflow."""
INTERIOR = 1e-3  # Distance to a limit, as a fraction of the half width, from which an axis counts as free


@struct.dataclass
class Quadratic:
    """``min 0.5 x'Qx + q.x  s.t.  Gx <= h`` over x = (u - centre, slacks) / length, in qpax's letters."""

    cost: Float[Array, "x x"]
    """Q. Zero for the slack, which is bounded by its linear cost and ``slack >= 0``; qpax needs no curvature there."""
    linear: Float[Array, "x"]  # q
    matrix: Float[Array, "g x"]  # G: rows, slack >= 0, upper limits, lower limits
    bound: Float[Array, "g"]  # h


def solve(
    row: Row, nominal: Vector, limits: Limits, *, penalty: float, authority: float, quadratic: bool = False
) -> Solution:
    """Like ``exact.solve``, to about 5e-4 m/s^2 in float32; ``authority`` is ignored and the gradient is not bounded.

    ``FilterConfig`` refuses a quadratic penalty, because ``BEYOND_REACH`` would hide slack that determines the command.
    The multiplier is recovered from stationarity on the free axes; it is zero if none is free and no slack is used.
    """
    assert not quadratic, "FilterConfig refuses it"
    del authority
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(row.normal)))
    limits = jax.lax.stop_gradient(limits)
    widest = jnp.max(limits.upper - limits.lower)
    length = jnp.where(widest > NARROW, 0.5 * widest, 1.0)
    centre = 0.5 * (limits.upper + limits.lower)
    # The penalty refers to the row divided by max|a|, whose gradient matters when the row is relaxed.
    weight = penalty * (1.0 / largest_entry(jnp.abs(row.normal / scale)))
    program = _scaled_quadratic(row, nominal, limits, scale=scale, length=length, centre=centre, weight=weight)
    x = minimiser(program)
    command = jnp.clip(centre + length * x[:3], limits.lower, limits.upper)
    slack = scale * length * jnp.maximum(x[3], 0.0)
    # A clipped offset hides slack: if the row is relaxed, compute it from the row itself.
    missed = jnp.maximum(row.offset - jnp.dot(row.normal, command), 0.0)
    slack = jnp.where(slack > SLACK_TOLERANCE, missed, slack)
    multiplier = _multiplier(row.normal / scale, command - nominal, limits, command, slack, penalty)
    return Solution(command=command, slack=slack, multiplier=jax.lax.stop_gradient(multiplier))


def _scaled_quadratic(
    row: Row, nominal: Vector, limits: Limits, *, scale: Scalar, length: Scalar, centre: Vector, weight: Scalar
) -> Quadratic:
    """The problem scaled to order one (except the slack's cost): row divided by ``scale``, commands by ``length``."""
    dtype = nominal.dtype
    normal = row.normal / scale
    offset = (row.offset / scale - jnp.dot(normal, centre)) / length
    offset = jnp.clip(offset, -BEYOND_REACH, BEYOND_REACH)
    # Interior-point methods need an interior: an axis of zero width is removed from the row and set by the final clip.
    movable = limits.upper - limits.lower > NARROW
    half_width = jnp.where(movable, 0.5 * (limits.upper - limits.lower) / length, 1.0)
    axes = jnp.eye(3, 4, dtype=dtype)
    slack_axis = jnp.array([[0.0, 0.0, 0.0, 1.0]], dtype=dtype)
    row_axis = jnp.append(jnp.where(movable, normal, 0.0), jnp.ones((), dtype))[None, :]
    return Quadratic(
        cost=jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0], dtype=dtype)),
        linear=jnp.append(-(nominal - centre) / length, weight / length),
        matrix=jnp.concatenate([-row_axis, -slack_axis, axes, -axes]),
        bound=jnp.concatenate([-offset[None], jnp.zeros(1, dtype), half_width, half_width]),
    )


def _multiplier(
    normal: Vector, moved: Vector, limits: Limits, command: Vector, slack: Scalar, penalty: float
) -> Scalar:
    """Least-squares lambda with ``u - u_nom = lambda a`` on the free axes; the penalty if slack is used."""
    margin = INTERIOR * 0.5 * (limits.upper - limits.lower)
    free = (command > limits.lower + margin) & (command < limits.upper - margin)
    normal_free = jnp.where(free, normal, 0.0)
    squared = jnp.dot(normal_free, normal_free)
    multiplier = jnp.where(squared > 0.0, jnp.dot(normal_free, moved) / jnp.where(squared > 0.0, squared, 1.0), 0.0)
    return jnp.where(slack > SLACK_TOLERANCE, penalty, jnp.clip(multiplier, 0.0, penalty))


def _interior_point(quadratic: Quadratic) -> Float[Array, "x"]:
    dtype = quadratic.linear.dtype
    tolerance = TOLERANCE[str(dtype)]
    return solve_qp_primal(
        quadratic.cost,
        quadratic.linear,
        jnp.zeros((0, quadratic.linear.shape[0]), dtype),
        jnp.zeros(0, dtype),
        quadratic.matrix,
        quadratic.bound,
        backend="i",
        solver_tol=tolerance,
        target_kappa=tolerance,
        max_iter=MAX_ITERATIONS,
    )


@jax.custom_vjp
def minimiser(quadratic: Quadratic) -> Float[Array, "x"]:
    """The minimiser; without gradient if it or the gradient is not finite: qpax returns NaN even for a zero
    cotangent."""
    return _interior_point(quadratic)


def _solve_forward(quadratic: Quadratic):
    x, pull_back = jax.vjp(_interior_point, quadratic)
    return x, (jnp.all(jnp.isfinite(x)), pull_back)


def _solve_backward(residuals, cotangent: Float[Array, "x"]):
    finite, pull_back = residuals
    (gradient,) = pull_back(cotangent)
    largest = jnp.max(jnp.abs(ravel_leaves(gradient)))
    usable = finite & (largest <= LARGEST_GRADIENT)
    return (jax.tree.map(lambda leaf: jnp.where(usable, leaf, 0.0), gradient),)


minimiser.defvjp(_solve_forward, _solve_backward)
