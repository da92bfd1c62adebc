"""The dynamics of a drone, chosen by ``physics.model``: how it starts and moves, and when its commands act.

Every model takes a desired acceleration with gravity compensated. What turns it into thrust and attitude is part of the
model, so controllers know of each only what :mod:`drone_cbf.physics.belief` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

from drone_cbf.arrays import Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import point_mass
from drone_cbf.physics.drone import DroneParams, DroneState, initial_state, nominal_params, queue_length
from drone_cbf.physics.randomisation import random_drone


@dataclass(frozen=True)
class Dynamics:
    """One model as pure functions, for one drone."""

    params: Callable[[], DroneParams]
    """The configured drone in still air."""
    initial: Callable[[Vector, Vector], DroneState]
    """(position [m], velocity [m/s]) -> state in hover thrust, with no commands under way."""
    step: Callable[[DroneState, Vector, DroneParams], DroneState]
    """(state, command sent now [m/s^2], parameters and the wind now) -> state one control period later, with
    ``physics.gradient_decay``."""
    randomise: Callable[[DroneParams, jax.Array], DroneParams]
    """(drone, key) -> one that differs from it, for training and measuring robustness."""
    queue: int
    """Number of commands that the state remembers."""
    ahead: float
    """Effective delay and lag together [s]: how long after it is sent a command acts."""


def make_point_mass(config: PhysicsConfig) -> Dynamics:
    """Lag and delay are the configured ones, exactly."""

    def step(state: DroneState, command: Vector, params: DroneParams) -> DroneState:
        return point_mass.step(state, command, params, config.time_step, config.gradient_decay)

    return Dynamics(
        params=lambda: nominal_params(config),
        initial=lambda position, velocity: initial_state(position, velocity, config),
        step=step,
        randomise=random_drone,
        queue=queue_length(config),
        ahead=config.delay + config.lag_time,
    )


MODELS: Mapping[str, Callable[[PhysicsConfig], Dynamics]] = {"point_mass": make_point_mass}
"""By ``physics.model``."""


def make_dynamics(config: PhysicsConfig) -> Dynamics:
    """The dynamics that ``config`` describes."""
    return MODELS[config.model](config)
