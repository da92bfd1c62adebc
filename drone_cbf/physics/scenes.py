"""Random scenes: obstacles, start, goal, wind."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector
from drone_cbf.config import FOREST_EDGE, GoalMode, PhysicsConfig, SceneConfig, SceneName
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.physics.drone import DroneParams, nominal_params
from drone_cbf.physics.obstacles import Obstacles, obstacles_of, surface_distances
from drone_cbf.physics.solids.capsules import Capsules

CANDIDATES = 24  # Starts and goals drawn per scene; the first that is clear of the obstacles is used
SMALLEST_FLIGHT = 1.5  # Smallest distance between random start and goal [m]
TRUNK_HALF_HEIGHT = 30.0  # Half height of trunks [m]: far beyond any flight, so that none passes above them
SHIFT = (0.6, -0.5, 0.4)  # Displacement of the ``shifted`` goal from the ``trained`` one in the box scenes [m]


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


def make_scene_sampler(name: SceneName, goals: GoalMode, config: SceneConfig) -> Callable[[jax.Array], Scene]:
    """Function from a key to a random scene of family ``name``.

    ``goals``: ``trained`` is the family's fixed goal, ``shifted`` that goal displaced, ``random`` a random clear place.
    """
    families = {"fixed_ring": _ring, "random_cloud": _cloud, "forest": _forest}

    def sample(key: jax.Array) -> Scene:
        return _cleared(families[name](key, goals, config), config.clearance)

    return sample


def perturb(scene: Scene, amount: Array | float, clearance: float, key: jax.Array) -> Scene:
    """The scene with displaced obstacles and a random start velocity (``augment`` of a curriculum).

    ``amount`` in [0, 1] scales displacements of up to 0.5 m per axis and start velocities of 1 m/s standard deviation.
    """
    capsules = scene.obstacles.capsules
    draw = uniform_draws(key, shift=capsules.centre.shape, velocity=(3,))
    shift = 0.5 * amount * between(draw["shift"], -1.0, 1.0)
    velocity = amount * standard_normal(draw["velocity"])
    obstacles = scene.obstacles.replace(capsules=capsules.replace(centre=capsules.centre + shift))
    return _cleared(scene.replace(obstacles=obstacles, start_velocity=velocity), clearance)


def _ring(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    slot = jnp.arange(config.obstacles, dtype=jnp.float32)
    angle = 2.0 * jnp.pi * slot / config.ring_obstacles
    centre = config.ring_radius * jnp.stack([jnp.cos(angle), jnp.sin(angle), 0.0 * angle], -1)
    radius = jnp.full(config.obstacles, config.ring_sphere_radius, jnp.float32)
    draw = uniform_draws(key, starts=(CANDIDATES, 3), goals=(CANDIDATES, 3))
    return _box_flight(draw, goals, config, _spheres(centre, radius, slot < config.ring_obstacles))


def _cloud(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    slots = config.obstacles
    draw = uniform_draws(key, centre=(slots, 3), radius=(slots,), starts=(CANDIDATES, 3), goals=(CANDIDATES, 3))
    centre = jnp.asarray(config.cloud_half_extent) * between(draw["centre"], -1.0, 1.0)
    radius = between(draw["radius"], *config.cloud_radius)
    active = jnp.arange(slots) < config.cloud_obstacles
    return _box_flight(draw, goals, config, _spheres(centre, radius, active))


def _spheres(centre: Float[Array, "m 3"], radius: Float[Array, "m"], active: Array) -> Obstacles:
    half_height, velocity = jnp.zeros_like(radius), jnp.zeros_like(centre)
    return obstacles_of(Capsules(centre, radius, half_height, velocity, active))


def _box_flight(draw: dict[str, Array], goals: GoalMode, config: SceneConfig, obstacles: Obstacles) -> Scene:
    """Scene between two points of the cloud's box, clear if possible, from uniform ``starts`` and ``goals``, (c, 3)."""
    half = jnp.asarray(config.cloud_half_extent)
    distances = jax.vmap(lambda point: jnp.min(surface_distances(obstacles, point)))
    if goals == "random":
        choices = half * between(draw["goals"], -1.0, 1.0)
        goal = choices[jnp.argmax(distances(choices) > config.clearance)]
    else:
        goal = jnp.asarray(SHIFT if goals == "shifted" else (0.0, 0.0, 0.0))
    starts = half * between(draw["starts"], -1.0, 1.0)
    apart = jnp.linalg.norm(starts - goal, axis=-1) > SMALLEST_FLIGHT
    # Distance to the goal has priority: an obstacle at the start is removed later, a start at the goal is not.
    start = starts[jnp.argmax(2.0 * apart + (distances(starts) > config.clearance))]
    zero = jnp.zeros(3)
    return Scene(obstacles=obstacles, start=start, start_velocity=zero, goal=goal, wind=zero, gust=zero)


def _forest(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Trees on a grid, each displaced within its own cell, so that none touch; crossed along x, in wind."""
    slots = config.obstacles
    draw = uniform_draws(key, jitter=(slots, 2), radius=(slots,), start=(3,), goal=(3,), wind=(3,), yaw=())
    columns = config.forest_columns
    rows = config.obstacles // columns
    slot = jnp.arange(config.obstacles)
    grid = config.forest_spacing * jnp.stack([slot % columns + 0.5, slot // columns - 0.5 * (rows - 1)], -1)
    grid = grid.at[:, 0].add(FOREST_EDGE)
    centre = grid + config.forest_jitter * between(draw["jitter"], -1.0, 1.0)
    trees = Capsules(
        centre=jnp.concatenate([centre, jnp.zeros((config.obstacles, 1))], -1),
        radius=between(draw["radius"], *config.forest_radius),
        half_height=jnp.full(config.obstacles, TRUNK_HALF_HEIGHT, jnp.float32),
        velocity=jnp.zeros((config.obstacles, 3)),
        active=slot < rows * columns,
    )
    side = jnp.array([0.0, 0.4 * rows * config.forest_spacing, 1.0])
    start = side * between(draw["start"], -1.0, 1.0)
    across = {"trained": jnp.zeros(3), "shifted": jnp.array([0.0, 3.0, 0.5])}.get(goals)
    if across is None:
        across = side * between(draw["goal"], -1.0, 1.0)
    spread = config.forest_wind * jnp.array([1.0, 1.0, 0.2])
    scene = Scene(
        obstacles=obstacles_of(trees),
        start=start,
        start_velocity=jnp.zeros(3),
        goal=across.at[0].set(config.forest_length),
        wind=spread * standard_normal(draw["wind"]),
        gust=config.gust * spread,
    )
    return _turned(scene, between(draw["yaw"], 0.0, 2.0 * math.pi)) if goals == "random" else scene


def _turned(scene: Scene, yaw: Array) -> Scene:
    """The scene rotated about the vertical axis through the origin, so that flights take every direction."""
    cosine, sine = jnp.cos(yaw), jnp.sin(yaw)
    rotation = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rotation = rotation.at[:2, :2].set(jnp.array([[cosine, -sine], [sine, cosine]]))
    capsules = scene.obstacles.capsules
    obstacles = scene.obstacles.replace(capsules=capsules.replace(centre=capsules.centre @ rotation.T))
    return scene.replace(obstacles=obstacles, start=rotation @ scene.start, goal=rotation @ scene.goal)


def _cleared(scene: Scene, clearance: float) -> Scene:
    """The scene without obstacles nearer than ``clearance`` [m] to its start or goal."""
    near_start = surface_distances(scene.obstacles, scene.start) < clearance
    near_goal = surface_distances(scene.obstacles, scene.goal) < clearance
    return scene.replace(obstacles=scene.obstacles.only(~near_start & ~near_goal))
