"""``fixed_ring``: spheres on a horizontal ring about the origin."""

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import uniform_draws
from drone_cbf.scenes.box_flights import CANDIDATES, box_flight, spheres
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots


def slots(config: SceneConfig) -> Slots:
    """Spheres."""
    return Slots(capsules=config.obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """A random start in the box of ``random_cloud``; the goal is the ring's centre unless shifted or random."""
    slot = jnp.arange(config.obstacles, dtype=jnp.float32)
    angle = 2.0 * jnp.pi * slot / config.ring_obstacles
    centre = config.ring_radius * jnp.stack([jnp.cos(angle), jnp.sin(angle), 0.0 * angle], -1)
    radius = jnp.full(config.obstacles, config.ring_sphere_radius, jnp.float32)
    draw = uniform_draws(key, starts=(CANDIDATES, 3), goals=(CANDIDATES, 3))
    return box_flight(draw, goals, config, spheres(centre, radius, slot < config.ring_obstacles))
