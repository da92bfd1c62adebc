"""Flights as the barrier learns from them: true states, the scene, and a label for every step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from drone_cbf.config import SystemConfig
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory
from drone_cbf.training.data.labels import Labels, make_labels


@struct.dataclass
class FlownStates:
    """f flights of t steps. States and scene say all that a graph is made of, in a quarter of its memory."""

    states: DroneState
    """True states before each step and at the end: leading axes f, t + 1."""
    scenes: Scene
    """Leading axis f."""
    labels: Labels
    """Leading axes f, t."""


@struct.dataclass
class Picked:
    """n steps picked from flights; leading axis n."""

    states: DroneState
    """True state."""
    following: DroneState
    """True state one step later."""
    scenes: Scene
    steps: Int[Array, "n"]
    """Index of the step in its flight."""
    labels: Labels


def make_record(system: SystemConfig, look_ahead: float) -> Callable[[Trajectory, Scene], FlownStates]:
    """Function (trajectories, scenes; leading axis f) -> their states and labels, without gradient."""
    label = jax.vmap(make_labels(system, look_ahead))

    def record(trajectories: Trajectory, scenes: Scene) -> FlownStates:
        trajectories, scenes = jax.lax.stop_gradient((trajectories, scenes))
        states = jax.tree.map(
            lambda before, last: jnp.concatenate([before, last[:, None]], axis=1),
            trajectories.states,
            trajectories.last,
        )
        return FlownStates(states=states, scenes=scenes, labels=label(trajectories, scenes))

    return record


def pick(flown: FlownStates, flights: Int[Array, "n"], steps: Int[Array, "n"]) -> Picked:
    """The given steps of the given flights."""
    return Picked(
        states=jax.tree.map(lambda leaf: leaf[flights, steps], flown.states),
        following=jax.tree.map(lambda leaf: leaf[flights, steps + 1], flown.states),
        scenes=jax.tree.map(lambda leaf: leaf[flights], flown.scenes),
        steps=steps,
        labels=jax.tree.map(lambda leaf: leaf[flights, steps], flown.labels),
    )
