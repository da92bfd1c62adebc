"""Other drones of a swarm: how each drone perceives those around it, and how they become nodes of its graph.

A drone perceives the nearest others within the sensing radius as balls that move, with their position and velocity. No
drone tells another what it intends.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, safe_norm
from drone_cbf.draws import standard_normal
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.readings import Others
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import FAR

TOUCHING = 1e-3  # Least distance of the node of another drone [m]: inside of its ball, it would be seen from behind


def draw_other_errors(level: Scalar, count: int, key: jax.Array) -> Float[Array, "k 6"]:
    """Independent errors of position [m] and velocity [m/s] of ``count`` others in one reading; ``level``: their
    standard deviation."""
    return level * standard_normal(jax.random.uniform(key, (count, 6), jnp.float32))


def others_of(
    position: Float[Array, "n 3"],
    velocity: Float[Array, "n 3"],
    index: Int[Array, "n k"],
    within: Bool[Array, "n k"],
) -> Others:
    """The others ``index`` of each of ``n`` drones, exactly; leading axis n. Without gradient: what the others do is
    given."""
    held_position, held_velocity = jax.lax.stop_gradient((position, velocity))
    return Others(position=held_position[index], velocity=held_velocity[index], seen=within)


def observed(others: Others, errors: Float[Array, "k 6"]) -> Others:
    """What a sensor reads of ``others``."""
    return others.replace(position=others.position + errors[:, :3], velocity=others.velocity + errors[:, 3:])


def with_others(
    graph: Graph, others: Others, spread: Scalar, motion: Motion, params: DroneParams, radius: float
) -> Graph:
    """``graph`` with a further node for each of ``others``: the point of its ball nearest to the drone.

    ``motion`` is where a command acts; ``spread`` [m]: standard deviation of the others' positions relative to it;
    ``radius`` of a drone [m]. The others are taken to fly on as they do, and seen where their own commands act.
    """
    ahead = params.delay + params.lag_time
    away = motion.position - others.position - ahead * others.velocity
    distance = safe_norm(away)[:, None]
    far = jnp.array([FAR, 0.0, 0.0])
    nearest = jnp.where(others.seen[:, None], away * jnp.maximum(distance - radius, TOUCHING) / distance, far)
    velocity = jnp.where(others.seen[:, None], motion.velocity - others.velocity, 0.0)
    return with_nodes(graph, nearest, velocity, others.seen, jnp.where(others.seen, spread, 0.0))


def with_nodes(
    graph: Graph,
    relative_position: Float[Array, "k 3"],
    relative_velocity: Float[Array, "k 3"],
    seen: Bool[Array, "k"],
    spread: Float[Array, "k"],
) -> Graph:
    """``graph``, of surfaces alone, followed by ``k`` slots for other drones."""
    none = jnp.zeros(seen.shape[0], jnp.float32)
    return graph.replace(
        relative_position=jnp.concatenate([graph.relative_position, relative_position]),
        relative_velocity=jnp.concatenate([graph.relative_velocity, relative_velocity]),
        mask=jnp.concatenate([graph.mask, seen]),
        spread=jnp.concatenate([graph.spread, spread]),
        penalty=None if graph.penalty is None else jnp.concatenate([graph.penalty, none]),
        drones=seen.shape[0],
    )


def surfaces_alone(graph: Graph) -> Graph:
    """``graph`` without its nodes of other drones."""
    kept = graph.mask.shape[0] - graph.drones
    return graph.replace(
        relative_position=graph.relative_position[:kept],
        relative_velocity=graph.relative_velocity[:kept],
        mask=graph.mask[:kept],
        spread=graph.spread[:kept],
        penalty=None if graph.penalty is None else graph.penalty[:kept],
        drones=0,
    )


def surface_graphs(graph: Graph) -> Graph:
    """A graph of one node for each slot of ``graph``, of surfaces alone, stacked along a leading axis."""
    count = graph.mask.shape[0]
    axes = ("relative_position", "relative_velocity", "mask", "spread", "penalty", "radius", "upright")
    single = {name: value[:, None] for name in axes if (value := getattr(graph, name)) is not None}
    rest = graph.replace(**dict.fromkeys(axes, None))
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), rest).replace(**single)


def pair_graphs(graph: Graph) -> Graph:
    """A graph of one node for each slot of another drone, stacked along a leading axis, in which the drone has the
    velocity relative to that other."""
    count = graph.drones
    first = graph.mask.shape[0] - count

    def repeated(value: Array) -> Array:
        return jnp.broadcast_to(value, (count, *value.shape))

    single = {name: getattr(graph, name)[first:, None] for name in ("relative_position", "relative_velocity")}
    single |= {name: getattr(graph, name)[first:, None] for name in ("mask", "spread")}
    rest = graph.replace(**dict.fromkeys(("frontier", "image", "yaw", "openings", "blocked"), None))
    return jax.tree.map(repeated, rest).replace(
        **single,
        left_out=jnp.full(count, FAR, jnp.float32),
        velocity=graph.relative_velocity[first:],
        penalty=None if graph.penalty is None else graph.penalty[first:, None],
        drones=1,
    )


def with_one_slot(graph: Graph) -> Graph:
    """``graph``, of surfaces alone, with an empty slot for another drone."""
    far, zero = jnp.array([[FAR, 0.0, 0.0]], jnp.float32), jnp.zeros((1, 3), jnp.float32)
    return with_nodes(graph, far, zero, jnp.zeros(1, bool), jnp.zeros(1, jnp.float32))


def of_one_row(graph: Graph, pair: Bool[Array, ""]) -> Graph:
    """What a single row of :mod:`drone_cbf.barrier.pairs` is made of, in one shape for both kinds: the surfaces and an
    empty slot, or, if ``pair``, the other drone that is nearest and no surface."""
    surfaces, pairs = with_one_slot(surfaces_alone(graph)), pair_graphs(graph)
    nearest = jnp.argmin(jnp.where(pairs.mask[:, 0], safe_norm(pairs.relative_position[:, 0]), jnp.inf))
    chosen = jax.tree.map(lambda leaf: leaf[nearest], pairs)
    nodes = (chosen.relative_position, chosen.relative_velocity, chosen.mask, chosen.spread)
    unseen = surfaces_alone(graph).replace(velocity=chosen.velocity)
    alone = with_nodes(unseen.replace(mask=jnp.zeros_like(unseen.mask)), *nodes)
    return jax.tree.map(lambda yes, no: jnp.where(pair, yes, no), alone, surfaces)
