"""``ring_swap``: all drones cross the middle at once; each goal is opposite its start."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import no_capsules, obstacles_of
from drone_cbf.scenes.lattice import JITTER, at_rest
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

SMALLEST_RADIUS = 0.5  # [m]
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def slots(config: SceneConfig) -> Slots:
    """No obstacles, in one unused slot."""
    return Slots(capsules=1)


def radius(config: SceneConfig) -> float:
    """Of circle or sphere [m]: neighbours are twice ``swarm_spacing`` apart, or more."""
    if config.ring_swap_shape == "circle":
        return max(SMALLEST_RADIUS, config.drones * config.swarm_spacing / math.pi)
    return max(SMALLEST_RADIUS, 0.8 * config.swarm_spacing * math.sqrt(config.drones))


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Evenly on the circle, or on a spiral around the sphere, displaced a little and turned about the vertical."""
    del goals
    count = config.drones
    draw = uniform_draws(key, jitter=(count, 3), turn=())
    index = np.arange(count)
    circle = config.ring_swap_shape == "circle"
    angle = index * (2.0 * math.pi / count if circle else GOLDEN_ANGLE)
    height = np.zeros(count) if circle else 1.0 - (2.0 * index + 1.0) / count
    across = np.sqrt(1.0 - height**2)
    places = radius(config) * np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=-1)
    flat = jnp.asarray([1.0, 1.0, 0.0 if circle else 1.0], jnp.float32)
    start = jnp.asarray(places, jnp.float32) + JITTER * config.swarm_spacing * flat * between(draw["jitter"], -1.0, 1.0)
    start = start @ about_vertical(2.0 * math.pi * draw["turn"]).T
    return at_rest(obstacles_of(no_capsules(1)), start, -start)
