"""Ties of the policy to the one it started from: distillation (Hinton et al. 2015, on commands) and an L2 anchor (L2-SP, Li et al. 2018).

The teacher is the parent's policy, without gradient. Both terms are built only where some stage of the curriculum weights one.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.goal_conditioned import PolicyParams, make_policy
from drone_cbf.training.curriculum import Curriculum, Stage
from drone_cbf.training.mechanisms import LossName

ANCHORS: tuple[LossName, ...] = ("distill", "policy_l2")


@struct.dataclass
class Anchor:
    """What the policy is tied to, and how strongly in the stage under way."""

    teacher: PolicyParams
    """Parameters of the parent's policy."""
    distill: Scalar
    """Weight of the mean squared difference of the nominal commands [1 / (m/s^2)^2]."""
    policy_l2: Scalar
    """Weight of the squared distance of the parameters."""


AnchorLoss = Callable[[PolicyParams, Graph, Anchor | None], dict[str, Scalar]]
"""(policy, graphs flown with leading axes flight and step, anchor) -> weighted terms of the loss by name."""


def anchor_weight(curriculum: Curriculum, stage: Stage, name: LossName) -> float:
    """Weight of the loss in that stage: the stage's own where it has one, else the curriculum's."""
    return stage.weights.get(name, getattr(curriculum.learning.weights, name))


def weighted_anchors(curriculum: Curriculum) -> tuple[LossName, ...]:
    """The anchors that some stage weights above zero; no other is computed."""
    return tuple(
        name for name in ANCHORS if any(anchor_weight(curriculum, stage, name) > 0.0 for stage in curriculum.stages)
    )


def make_anchor(curriculum: Curriculum, teacher: PolicyParams) -> Callable[[Stage], Anchor | None]:
    """Function from a stage to its anchor; None in every stage where nothing is anchored."""
    if not weighted_anchors(curriculum):
        return lambda stage: None
    return lambda stage: Anchor(
        teacher=teacher, **{name: jnp.float32(anchor_weight(curriculum, stage, name)) for name in ANCHORS}
    )


def make_anchor_loss(system: SystemConfig, curriculum: Curriculum) -> AnchorLoss:
    """The terms that are weighted somewhere in the curriculum, none of them where there are none."""
    wanted = weighted_anchors(curriculum)
    difference = make_command_difference(system)

    def distill(policy: PolicyParams, graphs: Graph, anchor: Anchor) -> Scalar:
        return anchor.distill * difference(policy, anchor.teacher, graphs)

    def policy_l2(policy: PolicyParams, graphs: Graph, anchor: Anchor) -> Scalar:
        return anchor.policy_l2 * squared_distance(policy, anchor.teacher)

    terms = {"distill": distill, "policy_l2": policy_l2}
    return lambda policy, graphs, anchor: {name: terms[name](policy, graphs, anchor) for name in wanted}


def make_command_difference(system: SystemConfig) -> Callable[[PolicyParams, PolicyParams, Graph], Scalar]:
    """Function (policy, teacher, graphs with two leading axes) -> mean squared difference of commands [(m/s^2)^2].

    Graphs and teacher pass no gradient: the policy learns what to command where it was, not to be where it agrees.
    """
    command = make_policy(system)

    def difference(policy: PolicyParams, teacher: PolicyParams, graphs: Graph) -> Scalar:
        seen = jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), graphs))
        taught = jax.lax.stop_gradient(jax.vmap(command, in_axes=(None, 0))(teacher, seen))
        return jnp.mean(jnp.sum((jax.vmap(command, in_axes=(None, 0))(policy, seen) - taught) ** 2, -1))

    return difference


def squared_distance(policy: PolicyParams, teacher: PolicyParams) -> Scalar:
    """Sum over all parameters of the squared difference; the teacher passes no gradient."""
    apart = jax.tree.map(lambda own, other: jnp.sum((own - jax.lax.stop_gradient(other)) ** 2), policy, teacher)
    return sum(jax.tree.leaves(apart), start=jnp.float32(0.0))
