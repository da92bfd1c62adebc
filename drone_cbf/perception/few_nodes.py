"""Graphs of the few nodes that a drone sees, out of graphs with room for many."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int

from drone_cbf.perception.graphs import Graph


@struct.dataclass
class Room:
    """Slots of a graph."""

    surfaces: int = struct.field(pytree_node=False)
    drones: int = struct.field(pytree_node=False)


def room_of(graph: Graph) -> Room:
    """Slots that ``graph`` has, or each of a batch."""
    return Room(surfaces=graph.mask.shape[-1] - graph.drones, drones=graph.drones)


def has_room(graph: Graph, room: Room) -> Bool[Array, ""]:
    """Whether the nodes of ``graph`` that are seen fit into ``room``, so that a slot of it stays empty.

    Networks take the largest entry of messages over all slots, to which an empty one adds a zero.
    """
    first = graph.mask.shape[0] - graph.drones
    surfaces, drones = jnp.sum(graph.mask[:first]), jnp.sum(graph.mask[first:])
    some_left = surfaces + drones < room.surfaces + room.drones
    return (surfaces <= room.surfaces) & (drones <= room.drones) & some_left


def narrowed(graph: Graph, room: Room) -> Graph:
    """``graph`` with ``room`` instead of its own, the nodes that are seen first; those that do not fit are left out."""
    first = graph.mask.shape[0] - graph.drones
    surfaces = _seen_first(graph.mask[:first], room.surfaces)
    order = jnp.concatenate([surfaces, first + _seen_first(graph.mask[first:], room.drones)])
    return graph.replace(
        relative_position=graph.relative_position[order],
        relative_velocity=graph.relative_velocity[order],
        mask=graph.mask[order],
        spread=graph.spread[order],
        penalty=None if graph.penalty is None else graph.penalty[order],
        radius=None if graph.radius is None else graph.radius[surfaces],
        upright=None if graph.upright is None else graph.upright[surfaces],
        drones=room.drones,
    )


def _seen_first(mask: Bool[Array, "k"], count: int) -> Int[Array, "c"]:
    """Places of the first ``count`` nodes that are seen, in order; after these, of others."""
    index = jnp.arange(mask.shape[0])
    earlier = index < index[:, None]
    seen = jnp.sum(earlier & mask, axis=-1)
    rank = jnp.where(mask, seen, jnp.sum(mask) + index - seen)
    return jnp.sum(jnp.where(rank == jnp.arange(count)[:, None], index, 0), axis=-1)
