"""Flights as training data of the barrier: true states, scenes, and a label for every step."""

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
    """f flights of t steps. Graphs are rebuilt from states and scene, which need a quarter of their memory."""

    states: DroneState
    """True states before each step and at the end: leading axes f, t + 1."""
    scenes: Scene
    """Leading axis f."""
    labels: Labels
    """Leading axes f, t."""


@struct.dataclass
class SampledSteps:
    """n steps sampled from flights; leading axis n."""

    states: DroneState
    """True states."""
    successors: DroneState
    """True states one step later."""
    scenes: Scene
    steps: Int[Array, "n"]
    """Index of each step in its flight."""
    labels: Labels


def make_flown_states(system: SystemConfig, look_ahead: float) -> Callable[[Trajectory, Scene], FlownStates]:
    """Function (trajectories, scenes; leading axis f) -> labelled states, without gradient."""
    label = jax.vmap(make_labels(system, look_ahead))

    def flown_states(trajectories: Trajectory, scenes: Scene) -> FlownStates:
        trajectories, scenes = jax.lax.stop_gradient((trajectories, scenes))
        states = jax.tree.map(
            lambda before, last: jnp.concatenate([before, last[:, None]], axis=1),
            trajectories.states,
            trajectories.last,
        )
        return FlownStates(states=states, scenes=scenes, labels=label(trajectories, scenes))

    return flown_states


def take_steps(flown: FlownStates, flights: Int[Array, "n"], steps: Int[Array, "n"]) -> SampledSteps:
    """The steps ``steps`` of the flights ``flights``."""
    return SampledSteps(
        states=jax.tree.map(lambda leaf: leaf[flights, steps], flown.states),
        successors=jax.tree.map(lambda leaf: leaf[flights, steps + 1], flown.states),
        scenes=jax.tree.map(lambda leaf: leaf[flights], flown.scenes),
        steps=steps,
        labels=jax.tree.map(lambda leaf: leaf[flights, steps], flown.labels),
    )
