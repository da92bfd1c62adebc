"""Decisions of many drones at once. Most of them see little: they decide on graphs of few nodes, others on whole ones.

In GCBF+'s world a drone sees one or two of the 20 nodes that its graph has room for. A pilot costs as much as its graph
has room, so this makes a decision several times cheaper. It is the same decision, to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.controller import ControllerParams, Decision, Pilot, PolicyMemory
from drone_cbf.packing import as_one_batch, of_single, replaced_where
from drone_cbf.perception.few_nodes import Room, has_room, narrowed, room_of
from drone_cbf.perception.graphs import Graph

FEW = Room(surfaces=2, drones=2)
AT_ONCE = 16  # Drones that decide on whole graphs in one go

Given = tuple[PolicyMemory, Graph]
Answers = tuple[PolicyMemory, Decision]


def make_sparing(pilot: Pilot) -> Pilot:
    """``pilot``, which under ``vmap``, however nested, decides for all drones together.

    Where derivatives are taken it is ``pilot`` itself; forward-mode differentiation is not possible. It must have been
    made outside of traces.
    """

    def of_batch(params: ControllerParams, given: Given) -> Answers:
        return _decisions(pilot, params, given)

    merged = as_one_batch(of_batch)

    @jax.custom_vjp
    def decide(params: ControllerParams, memory: PolicyMemory, graph: Graph) -> Answers:
        return of_single(merged, params, (memory, graph))

    def alone(params: ControllerParams, memory: PolicyMemory, graph: Graph) -> Answers:
        # Every answer, also a constant, depends on the graph: to ``vmap`` both kinds must look alike.
        tie = jnp.isfinite(graph.goal[0])
        return jax.tree.map(lambda leaf: jnp.where(tie, leaf, leaf), pilot(params, memory, graph))

    decide.defvjp(lambda params, memory, graph: jax.vjp(alone, params, memory, graph), lambda pull, by: pull(by))
    return decide


def _decisions(pilot: Pilot, params: ControllerParams, given: Given) -> Answers:
    """Of a batch (leading axis)."""

    def every(given: Given) -> Answers:
        return jax.vmap(pilot, in_axes=(None, 0, 0))(params, *given)

    memory, graph = given
    room, count = room_of(graph), graph.mask.shape[0]
    few = Room(surfaces=min(FEW.surfaces, room.surfaces), drones=min(FEW.drones, room.drones))
    if few == room or count <= AT_ONCE:
        return every(given)
    answers = every((memory, jax.vmap(lambda one: narrowed(one, few))(graph)))
    see_more: Array = ~jax.vmap(lambda one: has_room(one, few))(graph)
    return replaced_where(see_more, every, given, answers, AT_ONCE)
