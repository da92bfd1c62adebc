"""Drones that differ from the one a controller knows: mass, drag and lag drawn at random, in stronger wind.

What a policy meets when it leaves the simulator it was trained in (domain randomisation, Tobin et al. 2017), here to
measure how much of that it bears. The ranges are those of a payload, a changed airframe and worn rotors.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneParams, nominal_params
from drone_cbf.physics.scenes import Scene

MASS = 0.15
"""The mass is off by up to this fraction, and with it the acceleration that a command yields; hover stays trimmed."""
DRAG = 0.5
"""Both drag coefficients are off by up to this fraction, together."""
LAG = 0.3
"""The lag time of the thrust is off by up to this fraction."""
WIND = 1.5
"""Factor on mean wind and gusts."""


def random_drone(nominal: DroneParams, key: jax.Array) -> DroneParams:
    """One drone around ``nominal``: mass, drag and lag uniform within their ranges, each on its own."""
    mass, drag, lag = 1.0 + jnp.array([MASS, DRAG, LAG]) * jax.random.uniform(key, (3,), minval=-1.0)
    return nominal.replace(
        gain=nominal.gain / mass,
        linear_drag=nominal.linear_drag * drag,
        quadratic_drag=nominal.quadratic_drag * drag,
        lag_time=nominal.lag_time * lag,
    )


def with_random_drone(scene: Scene, config: PhysicsConfig, key: jax.Array) -> Scene:
    """The scene with a drone drawn around the configured one, and stronger wind."""
    drone = random_drone(nominal_params(config), key)
    return scene.replace(drone=drone, wind=WIND * scene.wind, gust=WIND * scene.gust)


def with_nominal_drone(scene: Scene, config: PhysicsConfig) -> Scene:
    """The scene with the configured drone spelt out: the same shapes as with a random one."""
    return scene.replace(drone=nominal_params(config))
