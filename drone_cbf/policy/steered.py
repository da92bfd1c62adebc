"""A policy that steers through openings: it first chooses a direction, then flies as the goal-conditioned policy.

The choice is a softmax over the direction cells. Its scores prefer directions towards the goal that are free up to it
or far, and the last choice (as vector field histograms do, Ulrich and Borenstein 1998); a network corrects them. The
gradient of a flight reaches it through the direction flown. Where the flight got no further, no direction is open.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.directions import cell_directions
from drone_cbf.perception.graphs import Graph, empty_graph
from drone_cbf.policy.dead_ends import DeadEnds, closed_ways, no_dead_ends, with_progress
from drone_cbf.policy.goal_conditioned import AT_GOAL, GoalPolicy

PREVIEW = 5.0  # A direction that is free for this long, or up to the goal, counts as open [m]
SHARPNESS = 12.0  # Of the softmax over the scores, which are of order one
BESIDE = 0.85  # Cosine to the best direction above which directions are averaged with it
HABIT = 1.0  # Score of the direction of the last choices
LEVEL = 0.4  # Score of a level direction over a vertical one
OPEN = 3.0  # Score of an open direction over a closed one
REMEMBERED = 0.9  # Share of the last choice in the remembered one


@struct.dataclass
class SteeringMemory:
    """What the steered policy remembers."""

    chosen: Vector  # Average of the last choices, at most of length 1
    dead_ends: DeadEnds
    cruise: Scalar | None = None  # How fast to fly, the same throughout a flight [m/s]; None: as configured


def no_choice(cruise: Scalar | None = None) -> SteeringMemory:
    """Memory before the first step of a flight at ``cruise`` [m/s]: no direction, no dead end."""
    return SteeringMemory(chosen=jnp.zeros(3, jnp.float32), dead_ends=no_dead_ends(), cruise=cruise)


class SteeredPolicy(nn.Module):
    """(memory, graph) -> (memory, command). ``features``: width of the scoring network."""

    flight: GoalPolicy
    features: int
    cruise_speed: float
    time_step: float

    @nn.compact
    def __call__(self, memory: SteeringMemory, graph: Graph) -> tuple[SteeringMemory, Vector]:
        assert graph.openings is not None, "SystemConfig refuses sensors that show none"
        openings = closed_ways(memory.dead_ends, graph)
        graph = graph.replace(openings=openings)
        cells = jnp.asarray(cell_directions())
        distance = safe_norm(graph.goal)
        towards = unit(graph.goal, AT_GOAL)
        preview = jnp.minimum(PREVIEW, distance)
        free = jnp.clip(openings / preview, 0.0, 1.0)
        cosine, habit = cells @ towards, cells @ memory.chosen
        drift = cells @ graph.velocity / (self.cruise_speed if memory.cruise is None else memory.cruise)
        reach = jnp.broadcast_to(distance / (distance + PREVIEW), cosine.shape)
        given = [free, openings / graph.range, cosine, habit, drift, cells[:, 2], reach]
        hidden = nn.silu(nn.Dense(self.features, name="score_in")(jnp.stack(given, -1)))
        learned = nn.Dense(1, name="score", kernel_init=nn.initializers.zeros, use_bias=False)(hidden)[:, 0]
        scores = cosine + OPEN * free + HABIT * habit - LEVEL * jnp.abs(cells[:, 2]) + learned
        # Averaged about the best one: the mean of a way to the left and one to the right leads into the wall.
        best = cells[jnp.argmax(jax.lax.stop_gradient(scores))]
        weights = jax.nn.softmax(SHARPNESS * scores) * jnp.maximum(cells @ best - BESIDE, 0.0)
        chosen = unit(weights @ cells, 1e-9)
        # Straight on where nothing is in the way: the cells are too coarse to aim by.
        straight = jax.lax.stop_gradient(self._straight(graph, towards, distance))
        heading = unit(straight * towards + (1.0 - straight) * chosen)
        steered = graph.replace(goal=safe_norm(graph.goal, 1e-3) * heading)
        near = jnp.exp(-((distance / AT_GOAL) ** 2))
        steered = steered.replace(goal=near * graph.goal + (1.0 - near) * steered.goal)
        return self._remembered(memory, graph, heading), self.flight(steered, memory.cruise)

    def _remembered(self, memory: SteeringMemory, graph: Graph, heading: Vector) -> SteeringMemory:
        """The memory after ``heading`` was chosen; a dead end also ends the habit that led into it."""
        dead_ends, stuck = with_progress(memory.dead_ends, graph, heading, self.time_step)
        chosen = jax.lax.stop_gradient(REMEMBERED * memory.chosen + (1.0 - REMEMBERED) * heading)
        return memory.replace(chosen=jnp.where(stuck, 0.0, chosen), dead_ends=dead_ends)

    def _straight(self, graph: Graph, towards: Vector, distance: Float[Array, ""]) -> Float[Array, ""]:
        """How far the way to the goal is free, from 0 (within half of the preview) to 1 (all of it, or to the goal)."""
        assert graph.openings is not None
        cells = jnp.asarray(cell_directions())
        close = jnp.maximum(cells @ towards - 0.9, 0.0)
        free = (close @ graph.openings) / (jnp.sum(close) + 1e-6)
        return jnp.clip(2.0 * free / jnp.minimum(PREVIEW, distance + 1e-3) - 1.0, 0.0, 1.0)


def policy_module(system: SystemConfig) -> SteeredPolicy:
    """The network described by ``system``."""
    flight = GoalPolicy(
        features=system.policy.features,
        node_features=system.policy.node_features,
        goal_scale=system.policy.goal_scale,
        cruise_speed=system.cruise_speed,
        max_acceleration=system.physics.reach,
        swarm=system.scene.drones > 1,
    )
    return SteeredPolicy(
        flight=flight, features=16, cruise_speed=system.cruise_speed, time_step=system.physics.time_step
    )


def initial_policy_params(system: SystemConfig, key: jax.Array) -> Any:
    """Untrained parameters."""
    return jax.jit(policy_module(system).init)(key, no_choice(), empty_graph(system.sensor))
