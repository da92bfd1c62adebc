"""A policy for flight at one height: straight to the goal, and along the boundary of an obstacle that is in the way.

In the plane a push away from surfaces ends before a flat face, or in the corner of two, behind which the goal lies.
This is the algorithm Bug2 of Lumelsky and Stepanov (Algorithmica 2, 1987), with Bug1's rule for leaving: it follows the
boundary on the side that leads on, until the goal is ahead and nearer than where the obstacle was met. It flies in the
direction found as the goal-conditioned policy does; the gradient does not pass through the choice of it.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph, empty_graph
from drone_cbf.policy import goal_conditioned
from drone_cbf.policy.goal_conditioned import GoalPolicy

# Lengths beyond the safe radius and times, in units of ``sensor.length``.
NEAR, FOLLOWED, LOST = 0.8, 0.4, 3.0  # Within which surfaces are in the way, at which they are followed, and lost
NEARER = 0.2  # By how much nearer to the goal than where it was met an obstacle is left
HABIT = 0.2  # Score of the direction flown last
AVERAGE = 0.6  # Time over which progress is averaged [s]
FRESH, STUCK = 1.0, 0.15  # Progress after a turn, and below which it turns round, in cruise speeds
MOVED_GOAL = 10.0  # Change of the goal's relative position in one step above which it is another goal


@struct.dataclass
class BoundaryMemory:
    """What the policy remembers; all without gradient."""

    side: Scalar  # 1: the boundary is on the left, -1: on the right, 0: none is followed
    met: Scalar  # Distance to the goal where it was met [m]
    heading: Vector  # Flown last
    progress: Scalar  # Average speed along the heading, in cruise speeds
    goal: Vector  # From the drone to the goal in the last step [m]
    cruise: Scalar | None = None  # How fast to fly, the same throughout a flight [m/s]; None: as configured


def no_boundary(cruise: Scalar | None = None) -> BoundaryMemory:
    """Before the first step of a flight at ``cruise`` [m/s]."""
    zero = jnp.zeros(3, jnp.float32)
    side, met, progress = jnp.float32(0.0), jnp.float32(0.0), jnp.float32(FRESH)
    return BoundaryMemory(side=side, met=met, heading=zero, progress=progress, goal=zero, cruise=cruise)


@struct.dataclass
class Faces:
    """The surfaces of a graph as seen in the plane."""

    normal: Float[Array, "k 3"]  # Level unit vectors from surface to drone
    gap: Float[Array, "k"]  # Distance beyond the safe radius [m]; large where there is none
    behind: Bool[Array, "k"]  # Whether the goal lies behind the face, and not in front of it
    length: float

    @property
    def near(self) -> Bool[Array, "k"]:
        """Which are near enough to be in the way."""
        return self.gap < NEAR * self.length

    def tangents(self, side: Scalar) -> Float[Array, "k 3"]:
        """Along each face with the boundary on ``side``."""
        up = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), self.normal.shape)
        return side * jnp.cross(up, self.normal)


def faces_of(graph: Graph, safe_radius: float, length: float) -> Faces:
    """The surfaces of ``graph`` without other drones; ``safe_radius`` [m]."""
    kept = graph.mask.shape[0] - graph.drones
    away = graph.relative_position[:kept] * jnp.array([1.0, 1.0, 0.0])
    normal, distance = unit(away), safe_norm(graph.relative_position[:kept])
    gap = jnp.where(graph.mask[:kept], distance - safe_radius, 1e3)
    behind = jnp.sum(normal * (away + graph.goal), -1) < safe_radius
    return Faces(normal=normal, gap=gap, behind=behind, length=length)


def followed(faces: Faces, side: Scalar, last: Vector) -> Vector:
    """Direction along the boundary: of the faces that are near, the way along the one that leads into none of them."""
    nearest = jnp.argmin(faces.gap)
    counts = faces.near | (jnp.arange(faces.gap.shape[0]) == nearest)
    ways = faces.tangents(side)
    into = jnp.min(jnp.where(counts, ways @ faces.normal.T, 1.0), axis=-1)
    score = jnp.where(counts, jnp.minimum(into, 0.0) + HABIT * (ways @ last), -jnp.inf)
    chosen = jnp.argmax(score)
    off = jnp.clip(FOLLOWED - faces.gap[chosen] / faces.length, -1.0, 1.0)
    return unit(ways[chosen] + off * faces.normal[chosen])


def with_boundary(
    memory: BoundaryMemory, graph: Graph, faces: Faces, cruise: Scalar | float, time_step: float
) -> BoundaryMemory:
    """The memory after ``graph`` was seen: what is followed, and the heading."""
    distance, towards = safe_norm(graph.goal), unit(graph.goal)
    same = safe_norm(graph.goal - memory.goal) < MOVED_GOAL * faces.length
    side = jnp.where(same, memory.side, 0.0)
    into = jnp.where(faces.near & faces.behind, faces.normal @ towards, 1.0)
    blocked = jnp.min(into) < 0.0
    meets = blocked & (side == 0.0)
    on = faces.tangents(jnp.float32(1.0))[jnp.argmin(into)] @ towards
    leaves = ~blocked & (distance < memory.met - NEARER * faces.length) | (jnp.min(faces.gap) > LOST * faces.length)
    speed = jnp.dot(graph.velocity, memory.heading) / cruise
    progress = memory.progress + time_step / AVERAGE * (speed - memory.progress)
    stuck = (progress < STUCK) & (side != 0.0)
    side = jnp.where(meets, jnp.where(on >= 0.0, 1.0, -1.0), jnp.where(stuck, -side, side))
    side = jnp.where(leaves, 0.0, side)
    along = followed(faces, side, jnp.where(meets | stuck, 0.0, memory.heading))
    return memory.replace(
        side=side,
        met=jnp.where(meets, distance, memory.met),
        heading=jnp.where(side == 0.0, towards, along),
        progress=jnp.where(meets | stuck | (side == 0.0), FRESH, progress),
        goal=graph.goal,
    )


class BoundaryPolicy(nn.Module):
    """(memory, graph) -> (memory, command)."""

    flight: GoalPolicy
    safe_radius: float
    time_step: float

    def __call__(self, memory: BoundaryMemory, graph: Graph) -> tuple[BoundaryMemory, Vector]:
        seen, length = jax.lax.stop_gradient(graph), self.flight.length
        cruise = self.flight.cruise_speed if memory.cruise is None else memory.cruise
        faces = faces_of(seen, self.safe_radius, length)
        after = with_boundary(jax.lax.stop_gradient(memory), seen, faces, cruise, self.time_step)
        # As if the goal lay in the direction flown, so far away that the drone does not slow down.
        ahead = jnp.maximum(safe_norm(seen.goal), 5.0 * length) * after.heading
        return after, self.flight(graph.replace(goal=jnp.where(after.side == 0.0, graph.goal, ahead)), memory.cruise)


def policy_module(system: SystemConfig) -> BoundaryPolicy:
    """The network described by ``system`` around the goal-conditioned one."""
    safe_radius = system.physics.drone_radius + system.barrier.safety_margin
    flight = goal_conditioned.policy_module(system)
    return BoundaryPolicy(flight=flight, safe_radius=safe_radius, time_step=system.physics.time_step)


def initial_policy_params(system: SystemConfig, key: jax.Array) -> Any:
    """Untrained parameters."""
    return jax.jit(policy_module(system).init)(key, no_boundary(), empty_graph(system.sensor))
