"""The dynamics of a drone, chosen by ``physics.model``: how it starts and moves, and when its commands act.

Every model takes a desired acceleration with gravity compensated. What turns it into thrust and attitude is part of the
model, so controllers know of each only what :mod:`drone_cbf.physics.belief` says.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import attitude, crazyflie, linear, point_mass, quadrotor
from drone_cbf.physics.drone import DroneParams, DroneState, initial_state, nominal_params, queue_length
from drone_cbf.physics.effective import Effective, fit_effective, fit_queue, outside_of_traces
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
    effective: Effective
    """The double integrator that controllers take the drone for."""

    @property
    def ahead(self) -> float:
        """How long after it is sent a command acts along every axis [s]."""
        return max(self.effective.ahead)


def make_point_mass(config: PhysicsConfig) -> Dynamics:
    """Lag and delay are the configured ones, exactly."""

    def step(state: DroneState, command: Vector, params: DroneParams) -> DroneState:
        return point_mass.step(state, command, params, config.time_step, config.gradient_decay)

    return Dynamics(
        params=lambda: nominal_params(config),
        initial=lambda position, velocity: initial_state(position, velocity, config),
        step=step,
        randomise=functools.partial(random_drone, delay=config.random_delay),
        queue=queue_length(config.longest_delay, config.time_step),
        effective=Effective(config.lag_time, config.lag_time, config.delay, error=0.0),
    )


def _make_linear(kind: linear.Kind, config: PhysicsConfig) -> Dynamics:
    """No lag; a delay is rounded up to whole periods."""
    delay = math.ceil(config.delay / config.time_step - 1e-4) * config.time_step
    whole = config.model_copy(update={"delay": delay, "random_delay": 0.0})

    def params() -> DroneParams:
        drag, none = jnp.array(kind.drag, jnp.float32), jnp.float32(0.0)
        known = nominal_params(whole).replace(lag_time=none, linear_drag=drag, quadratic_drag=none)
        return known.replace(top_speed=jnp.array(kind.largest_speed, jnp.float32))

    def step(state: DroneState, command: Vector, params: DroneParams) -> DroneState:
        return linear.step(state, command, params, config.time_step, config.gradient_decay)

    return Dynamics(
        params=params,
        initial=lambda position, velocity: initial_state(position, velocity, whole),
        step=step,
        randomise=random_drone,
        queue=queue_length(delay, config.time_step),
        effective=Effective(0.0, 0.0, delay, error=None),
    )


def _make_turning(model: ModuleType, config: PhysicsConfig) -> Dynamics:
    """A model with an attitude, which only its module knows: its airframe, body, drag and step."""
    if config.belief == "fitted":
        effective = _effective(model, config.model_copy(update=OF_NO_CONCERN))
    else:
        effective = Effective(config.lag_time, config.lag_time, config.delay, error=None)
    queue = queue_length(max(effective.delay, config.longest_delay), config.time_step)

    def params() -> DroneParams:
        return _drone(model, config, effective)

    def initial(position: Vector, velocity: Vector) -> DroneState:
        return _hovering(model, config, position, velocity, queue)

    def step(state: DroneState, command: Vector, params: DroneParams) -> DroneState:
        return model.step(state, command, params, config.time_step, config.inner_rate, config.gradient_decay)

    return Dynamics(
        params=params,
        initial=initial,
        step=step,
        randomise=functools.partial(random_drone, vary=model.varied, delay=config.random_delay),
        queue=queue,
        effective=effective,
    )


def _drone(model: ModuleType, config: PhysicsConfig, effective: Effective) -> DroneParams:
    linear, quadratic = model.believed_drag(config)
    return nominal_params(config).replace(
        lag_time=jnp.array(effective.lags, jnp.float32),
        delay=jnp.float32(effective.delay),
        linear_drag=jnp.float32(linear),
        quadratic_drag=jnp.float32(quadratic),
        top_speed=None if model.LARGEST_SPEED is None else jnp.full(3, model.LARGEST_SPEED, jnp.float32),
        airframe=model.airframe_of(config),
    )


def _hovering(model: ModuleType, config: PhysicsConfig, position: Vector, velocity: Vector, queue: int) -> DroneState:
    body, commands = model.hovering(config), jnp.zeros((queue, 3), jnp.float32)
    return initial_state(position, velocity, config).replace(queue=commands, body=body)


@functools.lru_cache(maxsize=64)
def _effective(model: ModuleType, config: PhysicsConfig) -> Effective:
    """Fitted once a process for each configuration."""

    def fit() -> Effective:
        zero, dt = jnp.zeros(3, jnp.float32), config.time_step
        rest = _hovering(model, config, zero, zero, fit_queue(config.delay, dt))
        drone = _drone(model, config, Effective(0.0, 0.0, config.delay, error=0.0))

        def step(state: DroneState, command: Vector, params: DroneParams) -> DroneState:
            return model.step(state, command, params, dt, config.inner_rate)

        return fit_effective(step, rest, drone, config.delay, dt)

    return outside_of_traces(fit)


OF_NO_CONCERN = {
    "gradient_decay": 0.0,
    "gradient_limit": 1.0,
    "drone_radius": 0.1,
    "yaw_rate": 1.0,
    "random_delay": 0.0,
}
"""Settings on which the fit does not depend, at one value."""
MODELS: Mapping[str, Callable[[PhysicsConfig], Dynamics]] = {
    "point_mass": make_point_mass,
    "linear": functools.partial(_make_linear, linear.LINEAR_DRONE),
    "double_integrator": functools.partial(_make_linear, linear.DOUBLE_INTEGRATOR),
    "attitude": functools.partial(_make_turning, attitude),
    "quadrotor": functools.partial(_make_turning, quadrotor),
    "crazyflie": functools.partial(_make_turning, crazyflie),
}
"""By ``physics.model``."""


def make_dynamics(config: PhysicsConfig) -> Dynamics:
    """The dynamics that ``config`` describes."""
    return MODELS[config.model](config)
