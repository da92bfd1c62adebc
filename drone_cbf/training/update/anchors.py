"""Regularisation of the policy towards its parent, the teacher: distillation of commands (Hinton et al. 2015) and an L2
anchor on the parameters (L2-SP, Li et al. 2018). Terms are built only if some stage of the curriculum weights them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy.policies import Policy, PolicyParams, make_policy
from drone_cbf.training.curriculum.mechanisms import LossName
from drone_cbf.training.curriculum.schema import Curriculum


def uses_anchor(curriculum: Curriculum) -> bool:
    """Whether some stage regularises the policy towards its parent."""
    return bool(curriculum.weights_used & {"distill", "policy_l2"})


def make_anchor_loss(
    system: SystemConfig, curriculum: Curriculum
) -> Callable[[PolicyParams, PolicyParams | None, Graph], dict[str, Scalar]]:
    """Function (policy, teacher, graphs flown with leading axes flight and step) -> unweighted ``distill``
    [(m/s^2)^2] and ``policy_l2``, as far as some stage weights them."""
    losses: dict[LossName, Callable[[PolicyParams, PolicyParams, Graph], Scalar]] = {
        "distill": make_command_difference(system),
        "policy_l2": lambda policy, teacher, graphs: squared_distance(policy, teacher),
    }
    used = {name: loss for name, loss in losses.items() if name in curriculum.weights_used}
    return lambda policy, teacher, graphs: {name: loss(policy, teacher, graphs) for name, loss in used.items()}


def make_command_difference(
    system: SystemConfig, teaching: SystemConfig | None = None
) -> Callable[[PolicyParams, PolicyParams, Graph], Scalar]:
    """Function (policy, teacher, graphs with axes flight and step) -> mean squared difference of commands [(m/s^2)^2].
    Graphs and teacher carry no gradient: the policy learns what to command in a state, not which states to visit.

    ``teaching``: the system whose policy the teacher is, if it is of another kind; it reads the same graphs.
    """
    own = make_commands(make_policy(system))
    other = own if teaching is None else make_commands(make_policy(teaching))

    def difference(policy: PolicyParams, teacher: PolicyParams, graphs: Graph) -> Scalar:
        graphs = jax.lax.stop_gradient(graphs)
        target = jax.lax.stop_gradient(other(teacher, graphs))
        return jnp.mean(jnp.sum((own(policy, graphs) - target) ** 2, -1))

    return difference


def make_commands(policy: Policy) -> Callable[[PolicyParams, Graph], Float[Array, "f t 3"]]:
    """Function (parameters, graphs with axes flight and step) -> commands; each flight begins without a memory."""

    def command(params: PolicyParams, memory: Any, graph: Graph) -> tuple[Any, Vector]:
        return policy.apply(params, memory, graph)

    def of_states(params: PolicyParams, graphs: Graph) -> Array:
        one = partial(command, params, policy.memory())
        return jax.vmap(jax.vmap(lambda graph: one(graph)[1]))(graphs)

    def of_flights(params: PolicyParams, graphs: Graph) -> Array:
        return jax.vmap(lambda flight: jax.lax.scan(partial(command, params), policy.memory(), flight)[1])(graphs)

    return of_flights if jax.tree.leaves(policy.memory()) else of_states


def squared_distance(policy: PolicyParams, teacher: PolicyParams) -> Scalar:
    """Squared L2 distance of all parameters; the teacher carries no gradient."""
    squares = jax.tree.map(lambda own, other: jnp.sum((own - jax.lax.stop_gradient(other)) ** 2), policy, teacher)
    return sum(jax.tree.leaves(squares), start=jnp.float32(0.0))
