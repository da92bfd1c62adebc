"""``random_cloud``: spheres of random size anywhere in a box."""

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.scenes.box_flights import CANDIDATES, box_flight, spheres
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots


def slots(config: SceneConfig) -> Slots:
    """Spheres."""
    return Slots(capsules=config.obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Start and goal in the same box; the goal is its centre unless shifted or random."""
    count = config.obstacles
    draw = uniform_draws(key, centre=(count, 3), radius=(count,), starts=(CANDIDATES, 3), goals=(CANDIDATES, 3))
    centre = jnp.asarray(config.cloud_half_extent) * between(draw["centre"], -1.0, 1.0)
    radius = between(draw["radius"], *config.cloud_radius)
    active = jnp.arange(count) < config.cloud_obstacles
    return box_flight(draw, goals, config, spheres(centre, radius, active))
