"""Flights as training data of the barrier: true states, scenes, and labels found by looking ahead (GCBF+)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.rollout import Trajectory
from drone_cbf.scenes.scene import Scene
from drone_cbf.training.settings import SafetySettings


@struct.dataclass
class Labels:
    """Labels of the steps of one flight. A step with neither label is left out of the losses."""

    safe: Bool[Array, "t"]
    """The hull keeps the safety margin from every surface for the whole look-ahead."""
    unsafe: Bool[Array, "t"]
    """The hull touches a surface during the step."""


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
    """n steps sampled from flights, with the true states before and after each; leading axis n."""

    states: DroneState
    successors: DroneState
    scenes: Scene
    steps: Int[Array, "n"]
    """Index of each step in its flight."""
    labels: Labels


def steps_ahead(system: SystemConfig, look_ahead: float) -> int:
    """Steps in ``look_ahead`` [s], at least one."""
    return max(1, math.ceil(look_ahead / system.physics.time_step - 1e-6))


def acting_steps(system: SystemConfig) -> int:
    """Steps until a command acts; a step's graph predicts the drone to that time (``acting_motion``)."""
    return round(make_dynamics(system.physics).ahead / system.physics.time_step)


def make_labels(system: SystemConfig, look_ahead: float) -> Callable[[Trajectory, Scene], Labels]:
    """Function from one flight to the labels of its steps (Zhang et al. 2024, GCBF+, section IV).

    Collisions between samples count. States that precede a collision have no label, nor have states too close to the
    end of the flight to be decided. A state within ``barrier.safety_margin`` of a surface is not labelled safe even
    without a collision: the barrier is zero at that distance from a surface at rest, and a contradicting label would
    erode the margin. Labels carry no gradient.
    """
    ahead, shift = steps_ahead(system, look_ahead), acting_steps(system)

    def labels(trajectory: Trajectory, scene: Scene) -> Labels:
        nearest = jnp.min(swept_clearances(trajectory, scene, system.physics), axis=-1)
        steps = nearest.shape[0]
        # Beyond the end of the flight: minus infinity is neither safe nor, by the check below, unsafe.
        known = jnp.pad(jax.lax.stop_gradient(nearest), (0, shift + ahead), constant_values=-jnp.inf)[shift:]
        least = jax.lax.reduce_window(known, jnp.inf, jax.lax.min, (ahead,), (1,), "VALID")[:steps]
        now = known[:steps]
        return Labels(safe=least >= system.barrier.safety_margin, unsafe=(now < 0.0) & jnp.isfinite(now))

    return labels


def check_look_ahead(system: SystemConfig, settings: SafetySettings) -> None:
    """Raise :class:`ConfigError` if the flights of a stage are too short to label any state safe."""
    look_ahead = settings.curriculum.learning.look_ahead
    needed = steps_ahead(system, look_ahead) + acting_steps(system)
    for stage in settings.curriculum.stages:
        if settings.curriculum.weights_in(stage)["cbf_safe"] > 0.0 and stage.horizon < needed:
            raise ConfigError(
                f"stage {stage.name}: horizon = {stage.horizon} is too short for learning.look_ahead = "
                f"{look_ahead:g} s with cbf_safe on: at least {needed} steps are needed; lower the "
                "look-ahead, lengthen the stage's flights or set cbf_safe to 0"
            )


def make_flown_states(system: SystemConfig, look_ahead: float) -> Callable[[Trajectory, Scene], FlownStates]:
    """Function (trajectories, scenes; leading axis f) -> labelled states, without gradient."""
    label = jax.vmap(make_labels(system, look_ahead))

    def flown_states(trajectories: Trajectory, scenes: Scene) -> FlownStates:
        flown, scenes = jax.lax.stop_gradient((trajectories, scenes))
        states = jax.tree.map(lambda x, last: jnp.concatenate([x, last[:, None]], axis=1), flown.states, flown.last)
        return FlownStates(states=states, scenes=scenes, labels=label(flown, scenes))

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
