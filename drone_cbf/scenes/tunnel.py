"""``tunnel``: two groups wait at the ends of a tunnel a few drones wide, and each goes where the other comes from."""

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.scenes.lattice import JITTER, PITCH, at_rest, behind_each_other, jittered
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

BEFORE = 0.3  # From the first drones to the tunnel [m]
SIDE_HALF_SIZE = 2.0  # Half of how far the walls reach sideways [m], so that the way around is long


def slots(config: SceneConfig) -> Slots:
    """Walls left, right, below and above."""
    return Slots(boxes=4)


def columns(config: SceneConfig) -> int:
    """Drones beside each other that keep half of ``swarm_spacing`` from where the tunnel's walls begin."""
    pitch, room = PITCH * config.swarm_spacing, config.tunnel_width - (1.0 + 2.0 * JITTER) * config.swarm_spacing
    return 1 + max(0, int(room / pitch + 1e-6))


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Goals are a random order of the starts, mirrored: drones meet head-on."""
    del goals
    draws, order = jax.random.split(key)
    draw = uniform_draws(draws, jitter=(config.drones, 3))
    back = 0.5 * config.tunnel_length + BEFORE + JITTER * config.swarm_spacing
    first = (config.drones + 1) // 2
    sizes = (first, config.drones - first)
    lattice = np.concatenate([behind_each_other(size, columns(config), config) for size in sizes])
    places = jittered(draw["jitter"], jnp.asarray(lattice), config) - jnp.array([back, 0.0, 0.0])
    here, there = places[:first], places[first:]
    to, fro = jax.random.split(order)
    mirrored = jnp.array([-1.0, 1.0, 1.0])
    start = jnp.concatenate([here, mirrored * there])
    goal = jnp.concatenate([mirrored * jax.random.permutation(to, here), jax.random.permutation(fro, there)])
    return at_rest(obstacles_of(boxes=_walls(config)), start, goal)


def _walls(config: SceneConfig) -> Boxes:
    """Four blocks around the tunnel, which runs along x about the origin."""
    half, side = 0.5 * config.tunnel_width, SIDE_HALF_SIZE
    aside, above = half + side, half + side
    long = 0.5 * config.tunnel_length
    centre = jnp.array([[0.0, aside, 0.0], [0.0, -aside, 0.0], [0.0, 0.0, -above], [0.0, 0.0, above]])
    upright, level = [long, side, half + 2.0 * side], [long, half, side]
    return Boxes(
        centre=centre,
        half_size=jnp.array([upright, upright, level, level]),
        rotation=jnp.broadcast_to(jnp.eye(3), (4, 3, 3)),
        velocity=jnp.zeros((4, 3)),
        active=jnp.ones(4, bool),
    )
