"""``formation``: a lattice of drones moves as a whole to the other side of a field of spheres."""

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.scenes.box_flights import spheres
from drone_cbf.scenes.lattice import PITCH, at_rest, behind_each_other, depth, jittered, without_near
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

RADIUS = (0.075, 0.15)  # Of the spheres [m]


def slots(config: SceneConfig) -> Slots:
    """Spheres."""
    return Slots(capsules=config.formation_obstacles)


def columns(config: SceneConfig) -> int:
    """Drones beside each other: about as many as behind each other."""
    return max(1, round(config.drones ** (1.0 / 3.0)))


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Goals are the starts displaced along x; spheres nearer than twice ``swarm_spacing`` to either are left out."""
    del goals
    count, wide = config.formation_obstacles, columns(config)
    draw = uniform_draws(key, jitter=(config.drones, 3), centre=(count, 3), radius=(count,))
    start = jittered(draw["jitter"], jnp.asarray(behind_each_other(config.drones, wide, config)), config)
    offset = config.formation_length + depth(config.drones, wide, config)
    half = 0.5 * wide * PITCH * config.swarm_spacing
    low, high = jnp.array([0.0, -half, -half]), jnp.array([config.formation_length, half, half])
    obstacles = spheres(between(draw["centre"], low, high), between(draw["radius"], *RADIUS), jnp.ones(count, bool))
    scene = at_rest(obstacles, start, start + jnp.array([offset, 0.0, 0.0]))
    return without_near(scene, 2.0 * config.swarm_spacing)
