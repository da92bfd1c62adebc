"""What every filter does at its edges: inputs out of range, results that are not finite, and how gradients pass."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from drone_cbf.arrays import Vector, tree_all_finite
from drone_cbf.safety.records import LARGEST_COMMAND, LARGEST_ROW, Limits, Row, Rows, SafeCommand, SafeCommands, Status

Tree = TypeVar("Tree")
Conditions = TypeVar("Conditions", Row, Rows)
Result = TypeVar("Result", SafeCommand, SafeCommands)


def in_range(rows: Row | Rows, nominal: Vector, limits: Limits) -> Bool[Array, ""]:
    """Whether the promises of the filter hold for these inputs; NaN is not in range."""
    commands = jnp.maximum(jnp.maximum(jnp.abs(nominal), jnp.abs(limits.lower)), jnp.abs(limits.upper))
    possible = (commands <= LARGEST_COMMAND) & (limits.lower <= limits.upper) & (jnp.abs(rows.normal) <= LARGEST_ROW)
    return jnp.all(possible) & jnp.all(jnp.abs(rows.offset) <= LARGEST_ROW)


def clipped(nominal: Vector, limits: Limits) -> Vector:
    """The nominal command clipped to the limits. The gradient is one on a limit (``clip`` halves it), zero beyond."""
    inside = (nominal >= limits.lower) & (nominal <= limits.upper)
    return jnp.where(inside, nominal, jax.lax.stop_gradient(jnp.clip(nominal, limits.lower, limits.upper)))


def select(condition: Bool[Array, ""], chosen: Tree, otherwise: Tree) -> Tree:
    """``chosen`` where the condition holds, leaf by leaf; a leaf of both stays."""
    return jax.tree.map(lambda x, y: x if x is y else jnp.where(condition, x, y), chosen, otherwise)


def sanitised(
    usable: Bool[Array, ""], rows: Conditions, nominal: Vector, limits: Limits
) -> tuple[Conditions, Vector, Limits]:
    """The inputs, or a trivial problem without gradient if one of them is out of range."""
    zeros, ones = jnp.zeros_like(nominal), jnp.ones_like(nominal)
    none = rows.replace(normal=jnp.zeros_like(rows.normal), offset=jnp.zeros_like(rows.offset))
    return select(
        usable, (rows, nominal, jax.lax.stop_gradient(limits)), (none, zeros, Limits(lower=-ones, upper=ones))
    )


def with_fallback(usable: Bool[Array, ""], result: Result, fallback: Vector) -> Result:
    """``result``, or the fallback where the inputs are not ``usable`` or the result is not finite."""
    finite = usable & tree_all_finite((result.command, result.slack, result.multiplier))
    replacement = result.replace(
        command=jax.lax.stop_gradient(fallback),
        slack=jnp.zeros_like(result.slack),
        multiplier=jnp.zeros_like(result.multiplier),
        status=jnp.full_like(result.status, Status.FALLBACK),
    )
    return select(finite, result, replacement)


def _identity(result: Any, nominal: Vector) -> Any:
    stopped = jax.lax.stop_gradient(result)
    return stopped.replace(command=stopped.command + (nominal - jax.lax.stop_gradient(nominal)))


GRADIENTS: dict[str, Callable[[Any, Vector], Any]] = {
    "full": lambda result, nominal: result,
    "identity": _identity,
    "stopped": lambda result, nominal: jax.lax.stop_gradient(result),
}
"""``filter.gradient`` -> (result, nominal) -> result with that gradient."""
