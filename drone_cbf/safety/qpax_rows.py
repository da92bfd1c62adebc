"""The CBF-QP with several rows by the interior-point method of ``qpax``: the general solver beside ``exact_rows``."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector, largest_entry
from drone_cbf.safety.qpax_solver import BEYOND_REACH, INTERIOR, NARROW, Quadratic, minimiser
from drone_cbf.safety.records import SLACK_TOLERANCE, Limits, Rows, RowsSolution


def solve(rows: Rows, nominal: Vector, limits: Limits, *, penalty: float, authority: float) -> RowsSolution:
    """Like ``exact_rows.solve``, to about 1e-3 m/s^2 in float32; ``authority`` is ignored, the gradient not bounded.

    Multipliers are recovered from stationarity on the free axes, least squares over the rows that are met with
    equality; of rows that depend on each other they are not unique.
    """
    del authority
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(rows.normal), axis=-1))
    limits = jax.lax.stop_gradient(limits)
    widest = jnp.max(limits.upper - limits.lower)
    length = jnp.where(widest > NARROW, 0.5 * widest, 1.0)
    centre = 0.5 * (limits.upper + limits.lower)
    # The penalty refers to the row divided by max|a|, whose gradient matters when the row is relaxed.
    weight = penalty * (1.0 / jax.vmap(largest_entry)(jnp.abs(rows.normal / scale[:, None])))
    x = minimiser(_scaled_quadratic(rows, nominal, limits, scale=scale, length=length, centre=centre, weight=weight))
    command = jnp.clip(centre + length * x[:3], limits.lower, limits.upper)
    slack = scale * length * jnp.maximum(x[3:], 0.0)
    # A clipped offset hides slack: if a row is relaxed, compute it from the row itself.
    missed = jnp.maximum(rows.offset - rows.normal @ command, 0.0)
    slack = jnp.where(slack > SLACK_TOLERANCE, missed, slack)
    multiplier = _multipliers(rows, scale, command, nominal, limits, slack, penalty)
    return RowsSolution(command=command, slack=slack, multiplier=jax.lax.stop_gradient(multiplier))


def _scaled_quadratic(
    rows: Rows,
    nominal: Vector,
    limits: Limits,
    *,
    scale: Float[Array, "k"],
    length: Float[Array, ""],
    centre: Vector,
    weight: Float[Array, "k"],
) -> Quadratic:
    """The problem scaled to order one, over x = (u - centre, slacks) / length; as for one row."""
    dtype, k = nominal.dtype, scale.shape[0]
    normal = rows.normal / scale[:, None]
    offset = jnp.clip((rows.offset / scale - normal @ centre) / length, -BEYOND_REACH, BEYOND_REACH)
    # Interior-point methods need an interior: an axis of zero width is removed from the rows and set by the final clip.
    movable = limits.upper - limits.lower > NARROW
    half_width = jnp.where(movable, 0.5 * (limits.upper - limits.lower) / length, 1.0)
    axes, slacks = jnp.eye(3, 3 + k, dtype=dtype), jnp.eye(k, 3 + k, k=3, dtype=dtype)
    conditions = jnp.concatenate([jnp.where(movable, normal, 0.0), jnp.eye(k, dtype=dtype)], axis=1)
    return Quadratic(
        cost=jnp.diag(jnp.concatenate([jnp.ones(3, dtype), jnp.zeros(k, dtype)])),
        linear=jnp.concatenate([-(nominal - centre) / length, weight / length]),
        matrix=jnp.concatenate([-conditions, -slacks, axes, -axes]),
        bound=jnp.concatenate([-offset, jnp.zeros(k, dtype), half_width, half_width]),
    )


def _multipliers(
    rows: Rows,
    scale: Float[Array, "k"],
    command: Vector,
    nominal: Vector,
    limits: Limits,
    slack: Float[Array, "k"],
    penalty: float,
) -> Float[Array, "k"]:
    """Least-squares multipliers on the free axes: the penalty where slack is used, zero where a row is not binding."""
    margin = INTERIOR * 0.5 * (limits.upper - limits.lower)
    free = (command > limits.lower + margin) & (command < limits.upper - margin)
    normal = jnp.where(free, rows.normal / scale[:, None], 0.0)
    relaxed = slack > SLACK_TOLERANCE
    binding = ~relaxed & (rows.offset - rows.normal @ command > -INTERIOR * scale)
    rest = jnp.where(free, command - nominal, 0.0) - jnp.where(relaxed, penalty, 0.0) @ normal
    met = jnp.where(binding[:, None], normal, 0.0)
    found = jnp.linalg.pinv(met.T, rtol=INTERIOR) @ rest
    return jnp.where(relaxed, penalty, jnp.where(binding, jnp.clip(found, 0.0, penalty), 0.0))
