"""Safe and unsafe states of a flight, labelled by looking ahead along the flight itself (GCBF+)."""

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
    """Labels of the steps of one flight. A step with neither label is left out of the losses."""

    safe: Bool[Array, "t"]
    """The hull keeps the safety margin from every surface for the whole look-ahead."""
    unsafe: Bool[Array, "t"]
    """The hull touches a surface during the step."""


def steps_ahead(system: SystemConfig, look_ahead: float) -> int:
    """Steps in ``look_ahead`` [s], at least one."""
    return max(1, math.ceil(look_ahead / system.physics.time_step - 1e-6))


def acting_steps(system: SystemConfig) -> int:
    """Steps until a command acts; a step's graph predicts the drone to that time (``acting_motion``)."""
    return round((system.physics.delay + system.physics.lag_time) / system.physics.time_step)


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
    learning = settings.curriculum.learning
    needed = steps_ahead(system, learning.look_ahead) + acting_steps(system)
    for stage in settings.curriculum.stages:
        if settings.curriculum.weights_in(stage)["cbf_safe"] > 0.0 and stage.horizon < needed:
            raise ConfigError(
                f"stage {stage.name}: horizon = {stage.horizon} is too short for learning.look_ahead = "
                f"{learning.look_ahead:g} s with cbf_safe on: at least {needed} steps are needed; lower the "
                "look-ahead, lengthen the stage's flights or set cbf_safe to 0"
            )
