"""Balancing the policy's gradients of efficiency and safety by MGDA (multiple-gradient descent)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Tree

SAFETY_TERMS = frozenset({"clearance", "collision", "slack", "intervention", "fallback", "violation"})
"""Safety terms of the flight's loss; all other terms count as efficiency."""
TINY = 1e-30
"""Squared difference of gradients below which they count as equal."""
Networks = dict[str, Any]
"""``policy`` and ``barrier`` parameters."""


@struct.dataclass
class Objectives:
    """The loss, split in two."""

    efficiency: Scalar
    """Includes the barrier's losses and the regularisation of the policy."""
    safety: Scalar


def split_objectives(terms: dict[str, Scalar]) -> Objectives:
    """Sums of weighted terms by name."""
    safety = [value for name, value in terms.items() if name in SAFETY_TERMS]
    rest = [value for name, value in terms.items() if name not in SAFETY_TERMS]
    return Objectives(efficiency=sum(rest, jnp.float32(0.0)), safety=sum(safety, jnp.float32(0.0)))


def tree_dot(one: Tree, other: Tree) -> Scalar:
    """Inner product over all leaves."""
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), jnp.float32(0.0))


def min_norm_point(first: Tree, second: Tree) -> tuple[Tree, Scalar]:
    """The point of minimum norm on the segment between two gradients, and the share of ``first`` in it, in [0, 1]. To
    first order neither objective rises along its negative; it is zero at Pareto-stationary points (Desideri 2012;
    closed form for two gradients: Sener and Koltun 2018, eq. 4)."""
    apart = jax.tree.map(jnp.subtract, second, first)
    share = jnp.clip(tree_dot(apart, second) / jnp.maximum(tree_dot(apart, apart), TINY), 0.0, 1.0)
    return jax.tree.map(lambda a, b: share * a + (1.0 - share) * b, first, second), share


def balanced_gradient(
    loss: Callable[[Networks], tuple[Objectives, Any]], networks: Networks
) -> tuple[Networks, Any, Scalar]:
    """(gradient, aux output of ``loss``, share of efficiency in the policy's direction). Both objectives are pulled
    back through one forward pass. The policy follows the minimum-norm direction, the barrier the sum of the gradients.
    """
    _, pull, aux = jax.vjp(loss, networks, has_aux=True)
    (both,) = jax.vmap(pull)(Objectives(efficiency=jnp.array([1.0, 0.0]), safety=jnp.array([0.0, 1.0])))
    efficiency, safety = (jax.tree.map(lambda leaf, half=half: leaf[half], both["policy"]) for half in (0, 1))
    policy, share = min_norm_point(efficiency, safety)
    barrier = jax.tree.map(lambda leaf: leaf[0] + leaf[1], both["barrier"])
    return {"policy": policy, "barrier": barrier}, aux, share
