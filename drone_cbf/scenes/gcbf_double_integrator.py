"""``gcbf_double_integrator``: the square of rectangles of GCBF+'s DoubleIntegrator, which flies in the plane.

Rectangles are upright boxes, far higher than any flight; starts and goals have height 0.
"""

import math

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.scenes.gcbf import TRIES, apart
from drone_cbf.scenes.lattice import at_rest
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

HALF_HEIGHT = 30.0  # Of the boxes [m]


def slots(config: SceneConfig) -> Slots:
    """Boxes; one unused where there are none."""
    return Slots(boxes=max(1, config.gcbf_double_integrator_obstacles))


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Random starts and goals, whatever ``goals`` says."""
    del goals
    room, places = slots(config).boxes, (config.drones, TRIES, 2)
    draw = uniform_draws(key, centre=(room, 2), size=(room, 2), turn=(room,), starts=places, goals=places)
    side = config.gcbf_double_integrator_side
    half_size = 0.5 * between(draw["size"], *config.gcbf_double_integrator_size)
    obstacles = obstacles_of(
        boxes=Boxes(
            centre=jnp.pad(side * draw["centre"], ((0, 0), (0, 1))),
            half_size=jnp.pad(half_size, ((0, 0), (0, 1)), constant_values=HALF_HEIGHT),
            rotation=about_vertical(2.0 * math.pi * draw["turn"]),
            velocity=jnp.zeros((room, 3)),
            active=jnp.arange(room) < config.gcbf_double_integrator_obstacles,
        )
    )
    level = ((0, 0), (0, 0), (0, 1))
    start, goal = (apart(jnp.pad(side * draw[end], level), obstacles, config.gcbf_apart) for end in ("starts", "goals"))
    return at_rest(obstacles, start, goal)
