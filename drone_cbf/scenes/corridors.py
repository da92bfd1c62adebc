"""``corridors``: from one end to the other between two high walls that bend half way."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar
from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.scenes.crossings import CROSSING, Course, crossing
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

WALL_HALF_HEIGHT = 30.0  # [m]: far beyond any flight, so that none passes above or below
BEYOND = 1.5  # Length of the walls behind start and goal [m]
HEIGHT = 0.5  # Largest height of starts and goals [m]
SHIFT = (-1.0, 0.0, 0.4)  # Displacement of the ``shifted`` goal from the ``trained`` one [m]


def slots(config: SceneConfig) -> Slots:
    """Two walls of two pieces."""
    return Slots(boxes=4)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """The second half leads along x to the goal; the first comes to it from a random direction."""
    draw = uniform_draws(key, width=(), bend=(), **CROSSING)
    width = between(draw["width"], *config.corridors_width)
    bend = config.corridors_bend * between(draw["bend"], -1.0, 1.0)
    half = 0.5 * config.corridors_length
    before = about_vertical(-bend)
    # Start and goal keep clear of the walls if the corridor is wide enough.
    aside = jnp.stack([jnp.zeros(()), jnp.maximum(0.5 * width - config.clearance, 0.0), jnp.float32(HEIGHT)])
    corner = jnp.array([half, 0.0, 0.0])
    start = corner + before @ (aside * between(draw["start"], -1.0, 1.0) - corner)
    goal = jnp.array([2.0 * half, 0.0, 0.0])
    if goals == "shifted":
        goal = goal + jnp.array(SHIFT)
    elif goals == "random":
        goal = goal + aside * between(draw["goal"], -1.0, 1.0)
    course = Course(config.corridors_length, 0.0, HEIGHT)
    walls = obstacles_of(boxes=_walls(width, bend, before, config))
    return crossing(walls, (start, goal), draw, goals, course)


def _walls(width: Scalar, bend: Scalar, before: Float[Array, "3 3"], config: SceneConfig) -> Boxes:
    """Left and right piece before the corner, then those behind it; ``bend`` [rad] is to the left if positive.

    On the inside the pieces end where their faces meet. On the outside they go on, through each other: without a slit.
    """
    half, thickness = 0.5 * config.corridors_length, config.corridors_thickness
    left_is_outside = jnp.where(bend < 0.0, 1.0, 0.0)
    outside = jnp.stack([left_is_outside, 1.0 - left_is_outside])
    meeting = 0.5 * width * jnp.tan(0.5 * bend) * jnp.array([-1.0, 1.0])  # of the faces, beyond the corner
    overlap = thickness * math.tan(0.5 * config.corridors_bend)
    length = half + BEYOND + meeting + overlap * outside  # left, right
    aside = 0.5 * (width + thickness) * jnp.array([1.0, -1.0])
    middle = 0.5 * length - half - BEYOND  # along the first half, from the corner
    behind = jnp.stack([-middle, aside, jnp.zeros(2)], -1)
    ahead = jnp.stack([middle, aside, jnp.zeros(2)], -1) @ before.T
    half_size = jnp.stack([0.5 * length, jnp.full(2, 0.5 * thickness), jnp.full(2, WALL_HALF_HEIGHT)], -1)
    straight = jnp.eye(3)
    return Boxes(
        centre=jnp.concatenate([ahead, behind]) + jnp.array([half, 0.0, 0.0]),
        half_size=jnp.concatenate([half_size, half_size]),
        rotation=jnp.stack([before, before, straight, straight]),
        velocity=jnp.zeros((4, 3)),
        active=jnp.ones(4, bool),
    )
