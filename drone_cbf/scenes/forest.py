"""``forest``: trees on a grid, each displaced within its own cell, so that none touch; crossed along x, in wind."""

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.scene_config import FOREST_EDGE
from drone_cbf.scenes.crossings import CROSSING, Course, crossing, ends
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

TRUNK_HALF_HEIGHT = 30.0  # Half height of trunks [m]: far beyond any flight, so that none passes above them


def slots(config: SceneConfig) -> Slots:
    """Trunks."""
    return Slots(capsules=config.obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """From one edge to the other."""
    count, columns = config.obstacles, config.forest_columns
    draw = uniform_draws(key, jitter=(count, 2), radius=(count,), **CROSSING)
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
    course = Course(
        length=config.forest_length,
        half_width=0.4 * rows * config.forest_spacing,
        half_height=1.0,
        wind=config.forest_wind,
        gust=config.gust,
    )
    return crossing(obstacles_of(trees), ends(draw, goals, course), draw, goals, course)
