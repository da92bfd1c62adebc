"""``moving``: balls and boxes that move through an arena in all directions."""

import math

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.scenes.crossings import CROSSING, Course, crossing, ends
from drone_cbf.scenes.motion import moved_back, path_draws, paths_cleared, velocities
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

EDGE = 1.0  # Distance of the arena from the start line and the goal line [m]
HALF_HEIGHT = 0.8  # Half height of the arena [m]


def slots(config: SceneConfig) -> Slots:
    """Balls and boxes."""
    return Slots(capsules=config.moving_balls, boxes=config.moving_boxes)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Across the arena; obstacles whose path comes near the goal, or early near the start, are removed."""
    balls, count = config.moving_balls, config.moving_balls + config.moving_boxes
    draw = uniform_draws(key, place=(count, 3), size=(count, 3), turn=(count,), **path_draws(count), **CROSSING)
    low = jnp.array([EDGE, -config.moving_half_width, -HALF_HEIGHT])
    high = jnp.array([config.moving_length - EDGE, config.moving_half_width, HALF_HEIGHT])
    velocity = velocities(draw, config.moving_speed)
    centre = moved_back(between(draw["place"], low, high), velocity, draw)
    size = between(draw["size"], *config.moving_size)
    obstacles = obstacles_of(
        capsules=Capsules(
            centre=centre[:balls],
            radius=size[:balls, 0],
            half_height=jnp.zeros(balls),
            velocity=velocity[:balls],
            active=jnp.ones(balls, bool),
        ),
        boxes=Boxes(
            centre=centre[balls:],
            half_size=size[balls:],
            rotation=about_vertical(2.0 * math.pi * draw["turn"][balls:]),
            velocity=velocity[balls:],
            active=jnp.ones(count - balls, bool),
        ),
    )
    course = Course(config.moving_length, 0.5 * config.moving_half_width, 0.5, shift=(1.5, 0.4), moving=True)
    scene = crossing(obstacles, ends(draw, goals, course), draw, goals, course)
    return paths_cleared(scene, config.clearance)
