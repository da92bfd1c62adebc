"""Which states of a flight are safe and which are not, judged by looking ahead along the flight itself (GCBF+)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory
from drone_cbf.training.settings import SafetySettings


@struct.dataclass
class Labels:
    """Of every step of one flight. A step may have none: it is then left out of the losses, not guessed."""

    safe: Bool[Array, "t"]
    """The hull keeps the barrier's safety margin from every surface for the whole look-ahead."""
    unsafe: Bool[Array, "t"]
    """The hull touches a surface during the step."""


def steps_ahead(system: SystemConfig, look_ahead: float) -> int:
    """Steps that make up ``look_ahead`` [s], at least one."""
    return max(1, math.ceil(look_ahead / system.physics.time_step - 1e-6))


def acting_steps(system: SystemConfig) -> int:
    """Steps until a command acts: a step's graph is that of where the drone will be by then (``acting_motion``)."""
    return round((system.physics.delay + system.physics.lag_time) / system.physics.time_step)


def make_labels(system: SystemConfig, look_ahead: float) -> Callable[[Trajectory, Scene], Labels]:
    """Function from one flight to the labels of its steps (Zhang et al. 2024, GCBF+, section IV).

    Collisions are judged between samples too. A state that only precedes a collision is neither safe nor unsafe, nor is
    one so near the flight's end that it cannot be told. A state nearer to a surface than ``barrier.safety_margin`` is
    not called safe, though nothing was hit: the barrier is zero at that distance from a surface at rest, and a label
    that disagreed would wear the margin away. Labels carry no gradient.
    """
    ahead, shift = steps_ahead(system, look_ahead), acting_steps(system)

    def labels(trajectory: Trajectory, scene: Scene) -> Labels:
        nearest = jnp.min(swept_clearances(trajectory, scene, system.physics), axis=-1)
        steps = nearest.shape[0]
        # Unknown beyond the end: minus infinity is not safe, and it is not counted as touched either.
        known = jnp.pad(jax.lax.stop_gradient(nearest), (0, shift + ahead), constant_values=-jnp.inf)[shift:]
        least = jax.lax.reduce_window(known, jnp.inf, jax.lax.min, (ahead,), (1,), "VALID")[:steps]
        now = known[:steps]
        return Labels(safe=least >= system.barrier.safety_margin, unsafe=(now < 0.0) & jnp.isfinite(now))

    return labels


def check_look_ahead(system: SystemConfig, settings: SafetySettings) -> None:
    """Raise :class:`ConfigError` where a stage's flights are too short for a single state to be called safe."""
    learning = settings.curriculum.learning
    needed = steps_ahead(system, learning.look_ahead) + acting_steps(system)
    for stage in settings.curriculum.stages:
        if settings.curriculum.weights_in(stage)["cbf_safe"] > 0.0 and stage.horizon < needed:
            raise ConfigError(
                f"stage {stage.name}: horizon = {stage.horizon} is too short for learning.look_ahead = "
                f"{learning.look_ahead:g} s with cbf_safe on: at least {needed} steps are needed; lower the "
                "look-ahead, lengthen the stage's flights or set cbf_safe to 0"
            )
