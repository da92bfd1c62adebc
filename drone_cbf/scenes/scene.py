"""The world of one flight, and what can be done to any: displace its obstacles, or fly another drone in it."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

from drone_cbf.arrays import Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.physics.drone import DroneParams, nominal_params
from drone_cbf.physics.obstacles import Obstacles, surface_distances
from drone_cbf.physics.randomisation import WIND, random_drone

CANDIDATES = 24  # Starts and goals drawn per scene; the first that is clear of the obstacles is used


@struct.dataclass
class Scene:
    """World of one flight; constant during it."""

    obstacles: Obstacles
    start: Vector  # [m]
    start_velocity: Vector  # [m/s]
    goal: Vector  # [m]
    wind: Vector  # Mean wind [m/s]
    gust: Vector  # Standard deviation of gusts [m/s]
    drone: DroneParams | None = None
    """The drone that flies; None for the configured one. The controller always assumes the configured one."""


def flown_drone(scene: Scene, config: PhysicsConfig) -> DroneParams:
    """The drone that flies ``scene``, in still air."""
    return nominal_params(config) if scene.drone is None else scene.drone


def with_random_drone(scene: Scene, config: PhysicsConfig, key: jax.Array) -> Scene:
    """The scene with a drone drawn around the configured one, and stronger wind."""
    drone = random_drone(nominal_params(config), key)
    return scene.replace(drone=drone, wind=WIND * scene.wind, gust=WIND * scene.gust)


def with_nominal_drone(scene: Scene, config: PhysicsConfig) -> Scene:
    """The scene with the configured drone filled in, so that its shapes equal those with a random one."""
    return scene.replace(drone=nominal_params(config))


def perturb(scene: Scene, amount: Array | float, clearance: float, key: jax.Array) -> Scene:
    """The scene with displaced obstacles and a random start velocity (``augment`` of a curriculum).

    ``amount`` in [0, 1] scales displacements of up to 0.5 m per axis and start velocities of 1 m/s standard deviation.
    """
    capsules = scene.obstacles.capsules
    draw = uniform_draws(key, shift=capsules.centre.shape, velocity=(3,))
    shift = 0.5 * amount * between(draw["shift"], -1.0, 1.0)
    velocity = amount * standard_normal(draw["velocity"])
    obstacles = scene.obstacles.replace(capsules=capsules.replace(centre=capsules.centre + shift))
    return cleared(scene.replace(obstacles=obstacles, start_velocity=velocity), clearance)


def cleared(scene: Scene, clearance: float) -> Scene:
    """The scene without obstacles nearer than ``clearance`` [m] to its start or goal."""
    near_start = surface_distances(scene.obstacles, scene.start) < clearance
    near_goal = surface_distances(scene.obstacles, scene.goal) < clearance
    return scene.replace(obstacles=scene.obstacles.only(~near_start & ~near_goal))


def turned(scene: Scene, yaw: Array) -> Scene:
    """The scene rotated about the vertical axis through the origin, so that flights take every direction."""
    cosine, sine = jnp.cos(yaw), jnp.sin(yaw)
    rotation = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rotation = rotation.at[:2, :2].set(jnp.array([[cosine, -sine], [sine, cosine]]))
    capsules = scene.obstacles.capsules
    obstacles = scene.obstacles.replace(capsules=capsules.replace(centre=capsules.centre @ rotation.T))
    return scene.replace(obstacles=obstacles, start=rotation @ scene.start, goal=rotation @ scene.goal)
