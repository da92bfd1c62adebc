"""The policies, by ``policy.kind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.policy import boundary, goal_conditioned, recurrent_depth, steered

PolicyParams = Any  # Variables of the network, a flax pytree


@dataclass(frozen=True)
class Policy:
    """A policy as pure functions, for one drone."""

    init: Callable[[jax.Array], PolicyParams]
    """Key -> untrained parameters."""
    memory: Callable[..., Any]
    """What it remembers before the first step; () if nothing. Takes the cruise speed of the flight [m/s], None for
    the configured one."""
    apply: Callable[[PolicyParams, Any, Graph], tuple[Any, Vector]]
    """(parameters, memory, graph) -> (memory, command within the limits of each axis [m/s^2])."""
    look: Callable[[Any, Graph], Vector]
    """(memory after the step, graph) -> direction that a camera should look in, of any length, world frame."""


def _graph_policy(system: SystemConfig) -> Policy:
    fly = goal_conditioned.make_policy(system)

    def apply(params: PolicyParams, memory: Any, graph: Graph) -> tuple[Any, Vector]:
        return memory, fly(params, graph, *memory)

    return Policy(
        init=lambda key: goal_conditioned.initial_policy_params(system, key),
        memory=lambda cruise=None: () if cruise is None else (_seen_to_stop(cruise, system),),
        apply=apply,
        look=lambda memory, graph: graph.velocity + unit(graph.goal),
    )


def _steered_policy(system: SystemConfig) -> Policy:
    apply: Callable[..., Any] = steered.policy_module(system).apply
    return Policy(
        init=lambda key: steered.initial_policy_params(system, key),
        memory=lambda cruise=None: steered.no_choice(None if cruise is None else _seen_to_stop(cruise, system)),
        apply=apply,
        look=lambda memory, graph: memory.chosen,
    )


def _boundary_policy(system: SystemConfig) -> Policy:
    apply: Callable[..., Any] = boundary.policy_module(system).apply
    return Policy(
        init=lambda key: boundary.initial_policy_params(system, key),
        memory=lambda cruise=None: boundary.no_boundary(None if cruise is None else _seen_to_stop(cruise, system)),
        apply=apply,
        look=lambda memory, graph: memory.heading,
    )


def _recurrent_depth_policy(system: SystemConfig) -> Policy:
    apply: Callable[..., Any] = recurrent_depth.policy_module(system).apply
    usual = system.objective.max_speed
    return Policy(
        init=lambda key: recurrent_depth.initial_policy_params(system, key),
        memory=lambda cruise=None: recurrent_depth.no_memory(usual if cruise is None else cruise),
        apply=apply,
        look=lambda memory, graph: memory.chosen,
    )


def _seen_to_stop(cruise: Scalar, system: SystemConfig) -> Scalar:
    """The cruise speed [m/s], at most one from which the drone stops within the range that it sees."""
    return jnp.minimum(jnp.asarray(cruise, jnp.float32), system.seen_speed)


POLICIES: Mapping[str, Callable[[SystemConfig], Policy]] = {
    "graph": _graph_policy,
    "steered": _steered_policy,
    "boundary": _boundary_policy,
    "recurrent_depth": _recurrent_depth_policy,
}
"""By ``policy.kind``."""


def make_policy(system: SystemConfig) -> Policy:
    """The policy that ``system`` selects."""
    return POLICIES[system.policy.kind](system)


def initial_policy_params(system: SystemConfig, key: jax.Array) -> PolicyParams:
    """Untrained parameters."""
    return make_policy(system).init(key)
