"""Random drones that differ from the controller's model in mass, drag and lag, in stronger wind.

Domain randomisation (Tobin et al. 2017), used to measure robustness. The ranges correspond to a payload, a changed
airframe and worn rotors.
"""

import jax
import jax.numpy as jnp

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneParams, nominal_params
from drone_cbf.physics.scenes import Scene

MASS = 0.15  # Largest relative error of the mass, and so of the acceleration per command; hover stays trimmed
DRAG = 0.5  # Largest relative error of both drag coefficients, drawn once
LAG = 0.3  # Largest relative error of the thrust lag
WIND = 1.5  # Factor on mean wind and gusts


def random_drone(nominal: DroneParams, key: jax.Array) -> DroneParams:
    """A drone around ``nominal`` with independent uniform errors in mass, drag and lag."""
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
    """The scene with the configured drone filled in, so that its shapes equal those with a random one."""
    return scene.replace(drone=nominal_params(config))
