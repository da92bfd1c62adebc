"""Dead ends: places where a flight got no further, such as a gap that looks open, but is too narrow for the filter.

Which gaps these are depends on margins and noise that the policy does not know. It notices that it gets on no longer,
and takes the place ahead for closed during some seconds, so that it tries another way. Memory without gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.point_graph import openings

PLACES = 8  # Remembered at a time
KEPT = 6.0  # How long each is [s]
AHEAD, RADIUS = 0.6, 0.6  # Where a dead end is taken to be, from the drone in the direction chosen, and its radius [m]
HEIGHTS = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""It reaches up and down like a post [m]: between trees or pillars a gap is as narrow there, and trying it at every
height takes a whole flight."""
AVERAGE = 1.0  # Time over which progress is averaged [s]
FRESH, STUCK = 1.0, 0.3  # Progress assumed at the start and after a dead end, and below which there is one [m/s]
CLIMB = 0.25
"""Weight of vertical speed in the progress: between two pillars a flight can go up and down for ever; one that climbs
freely is fast enough."""
ARRIVED = 1.0  # Distance to the goal below which there are none [m]
MOVED_GOAL = 1.0  # Change of the goal's relative position in one step above which it is another goal [m]


@struct.dataclass
class DeadEnds:
    """What is remembered of the last ``n`` dead ends, relative to the goal."""

    place: Float[Array, "n 3"]  # From the goal [m]
    age: Float[Array, "n"]  # [s]; from :data:`KEPT` on there is none
    progress: Scalar  # Average speed in the direction chosen [m/s]
    goal: Vector  # From the drone to the goal in the last step [m]


def no_dead_ends() -> DeadEnds:
    """Before the first step."""
    return DeadEnds(
        place=jnp.zeros((PLACES, 3), jnp.float32),
        age=jnp.full(PLACES, KEPT, jnp.float32),
        progress=jnp.float32(FRESH),
        goal=jnp.zeros(3, jnp.float32),
    )


def closed_ways(known: DeadEnds, graph: Graph) -> Float[Array, "c"]:
    """The openings of ``graph`` [m] as far as no dead end closes them; none is closed nearer to the goal than
    :data:`ARRIVED`."""
    assert graph.openings is not None
    there = (known.age < KEPT) & _same_goal(known, graph) & (safe_norm(graph.goal) > ARRIVED)
    posts = known.place[:, None] + jnp.outer(jnp.asarray(HEIGHTS), jnp.array([0.0, 0.0, 1.0])) + graph.goal
    closed = openings(posts.reshape(-1, 3), jnp.repeat(there, len(HEIGHTS)), graph.range, RADIUS)
    return jnp.minimum(graph.openings, jax.lax.stop_gradient(closed))


def with_progress(known: DeadEnds, graph: Graph, heading: Vector, time_step: float) -> tuple[DeadEnds, Array]:
    """What is remembered after a step in which ``heading`` was chosen, and whether it led into a dead end."""
    known, graph, heading = jax.lax.stop_gradient((known, graph, heading))
    same, far = _same_goal(known, graph), safe_norm(graph.goal) > ARRIVED
    speed = jnp.dot(graph.velocity * jnp.array([1.0, 1.0, CLIMB]), heading)
    progress = known.progress + time_step / AVERAGE * (speed - known.progress)
    progress = jnp.where(same & far, progress, FRESH)
    stuck = progress < STUCK
    age = jnp.where(same, jnp.minimum(known.age + time_step, KEPT), KEPT)
    oldest = jnp.arange(PLACES) == jnp.argmax(age)
    taken = stuck & oldest
    after = DeadEnds(
        place=jnp.where(taken[:, None], AHEAD * heading - graph.goal, known.place),
        age=jnp.where(taken, 0.0, age),
        progress=jnp.where(stuck, FRESH, progress),
        goal=graph.goal,
    )
    return after, stuck


def _same_goal(known: DeadEnds, graph: Graph) -> Array:
    return safe_norm(graph.goal - known.goal) < MOVED_GOAL
