"""``forest``: trees on a grid, each displaced within its own cell, so that none touch; crossed along x, in wind."""

import math

import jax
import jax.numpy as jnp

from drone_cbf.config import FOREST_EDGE, GoalMode, SceneConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.scenes.scene import Scene, turned
from drone_cbf.scenes.slots import Slots

TRUNK_HALF_HEIGHT = 30.0  # Half height of trunks [m]: far beyond any flight, so that none passes above them


def slots(config: SceneConfig) -> Slots:
    """Trunks."""
    return Slots(capsules=config.obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """From one edge to the other, in a random direction if goals are random."""
    count, columns = config.obstacles, config.forest_columns
    draw = uniform_draws(key, jitter=(count, 2), radius=(count,), start=(3,), goal=(3,), wind=(3,), yaw=())
    rows = count // columns
    slot = jnp.arange(count)
    grid = config.forest_spacing * jnp.stack([slot % columns + 0.5, slot // columns - 0.5 * (rows - 1)], -1)
    grid = grid.at[:, 0].add(FOREST_EDGE)
    centre = grid + config.forest_jitter * between(draw["jitter"], -1.0, 1.0)
    trees = Capsules(
        centre=jnp.concatenate([centre, jnp.zeros((count, 1))], -1),
        radius=between(draw["radius"], *config.forest_radius),
        half_height=jnp.full(count, TRUNK_HALF_HEIGHT, jnp.float32),
        velocity=jnp.zeros((count, 3)),
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
    return turned(scene, between(draw["yaw"], 0.0, 2.0 * math.pi)) if goals == "random" else scene
