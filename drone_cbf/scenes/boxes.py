"""``boxes``: boxes on a grid, turned and tilted, each displaced within its own cell, so that gaps remain."""

import math

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.scene_config import BOXES_EDGE
from drone_cbf.scenes.crossings import CROSSING, Course, crossing, ends
from drone_cbf.scenes.rotations import tilted
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots


def slots(config: SceneConfig) -> Slots:
    """Boxes."""
    return Slots(boxes=config.boxes_obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """From one edge to the other."""
    count, columns = config.boxes_obstacles, config.boxes_columns
    box: dict[str, tuple[int, ...]] = {"size": (count, 3), "jitter": (count, 3)}
    draw = uniform_draws(key, **box, turn=(count,), lean=(count,), tilt=(count,), **CROSSING)
    rows = count // columns
    slot = jnp.arange(count)
    grid = config.boxes_spacing * jnp.stack([slot % columns + 0.5, slot // columns - 0.5 * (rows - 1)], -1)
    half_size = between(draw["size"], *config.boxes_half_size)
    # The ball around the box stays half a gap away from the sides of its cell, whatever the rotation.
    room = 0.5 * (config.boxes_spacing - config.boxes_gap) - jnp.linalg.norm(half_size, axis=-1)
    reach = jnp.stack([room, room, jnp.full(count, config.boxes_height)], -1)
    boxes = Boxes(
        centre=jnp.pad(grid, ((0, 0), (0, 1))).at[:, 0].add(BOXES_EDGE) + reach * between(draw["jitter"], -1.0, 1.0),
        half_size=half_size,
        rotation=tilted(
            2.0 * math.pi * draw["turn"],
            2.0 * math.pi * draw["lean"],
            jnp.where(slot % 2 == 1, config.boxes_tilt * draw["tilt"], 0.0),
        ),
        velocity=jnp.zeros((count, 3)),
        active=slot < rows * columns,
    )
    course = Course(length=config.boxes_length, half_width=0.4 * rows * config.boxes_spacing, half_height=0.5)
    return crossing(obstacles_of(boxes=boxes), ends(draw, goals, course), draw, goals, course)
