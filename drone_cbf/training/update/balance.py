"""Gradients of the joint loss: of its sum, or with efficiency and safety balanced for the policy (MGDA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Tree

SAFETY_TERMS = frozenset({"clearance", "collision", "slack", "intervention", "fallback", "violation"})
"""Terms of the flight's loss that are about safety; the others are about efficiency, or teach."""
TINY = 1e-30
"""Square of a difference of gradients below which they count as equal."""

Networks = dict[str, Any]
"""``policy`` and ``barrier`` parameters."""


@struct.dataclass
class Objectives:
    """The loss in two halves."""

    efficiency: Scalar
    """With all that is not about safety: what teaches the barrier, and what keeps the policy near its parent."""
    safety: Scalar


def halves(terms: dict[str, Scalar]) -> Objectives:
    """Sums of weighted terms by name."""
    safety = [value for name, value in terms.items() if name in SAFETY_TERMS]
    rest = [value for name, value in terms.items() if name not in SAFETY_TERMS]
    return Objectives(efficiency=sum(rest, jnp.float32(0.0)), safety=sum(safety, jnp.float32(0.0)))


def tree_dot(one: Tree, other: Tree) -> Scalar:
    """Inner product over all leaves."""
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), jnp.float32(0.0))


def smallest_in_hull(first: Tree, second: Tree) -> tuple[Tree, Scalar]:
    """The point of least norm on the segment between two gradients, and the share of ``first`` in it, in [0, 1].

    Along its negative neither objective rises, to first order; it is zero where none can fall without the other's
    rising (Desideri 2012; for two gradients in closed form, Sener and Koltun 2018, eq. 4).
    """
    apart = jax.tree.map(jnp.subtract, second, first)
    share = jnp.clip(tree_dot(apart, second) / jnp.maximum(tree_dot(apart, apart), TINY), 0.0, 1.0)
    return jax.tree.map(lambda a, b: share * a + (1.0 - share) * b, first, second), share


def balanced_gradient(
    loss: Callable[[Networks], tuple[Objectives, Any]], networks: Networks
) -> tuple[Networks, Any, Scalar]:
    """(gradient, what ``loss`` returns beside the objectives, share of efficiency in the policy's direction).

    Flights are flown once and pulled back for both halves at once, so that what is rematerialised is so once. The
    policy follows the direction of least norm, the barrier the sum: what it learns is not a matter of balance.
    """
    _, pull, beside = jax.vjp(loss, networks, has_aux=True)
    (both,) = jax.vmap(pull)(Objectives(efficiency=jnp.array([1.0, 0.0]), safety=jnp.array([0.0, 1.0])))
    efficiency, safety = (jax.tree.map(lambda leaf, half=half: leaf[half], both["policy"]) for half in (0, 1))
    policy, share = smallest_in_hull(efficiency, safety)
    barrier = jax.tree.map(lambda leaf: leaf[0] + leaf[1], both["barrier"])
    return {"policy": policy, "barrier": barrier}, beside, share
