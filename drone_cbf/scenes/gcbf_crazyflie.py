"""``gcbf_crazyflie``: the cube of GCBF+'s CrazyFlie, as ``gcbf_linear``; without obstacles in its training."""

import jax
import jax.numpy as jnp

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.scenes.box_flights import spheres
from drone_cbf.scenes.gcbf import TRIES, apart
from drone_cbf.scenes.lattice import at_rest
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots


def slots(config: SceneConfig) -> Slots:
    """Spheres; one unused where there are none."""
    return Slots(capsules=max(1, config.gcbf_crazyflie_obstacles))


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Random starts and goals, whatever ``goals`` says."""
    del goals
    room, places = slots(config).capsules, (config.drones, TRIES, 3)
    draw = uniform_draws(key, centre=(room, 3), radius=(room,), starts=places, goals=places)
    side, radius = config.gcbf_crazyflie_side, between(draw["radius"], *config.gcbf_crazyflie_radius)
    obstacles = spheres(side * draw["centre"], radius, jnp.arange(room) < config.gcbf_crazyflie_obstacles)
    start, goal = (apart(side * draw[end], obstacles, config.gcbf_apart) for end in ("starts", "goals"))
    return at_rest(obstacles, start, goal)
