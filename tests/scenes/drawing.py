"""Scenes of every family, drawn once for all tests of a process, and a search for a way through one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.config import SceneConfig
from drone_cbf.physics.obstacles import Obstacles, surface_distances
from drone_cbf.scenes.families import make_scene_sampler

CONFIG = SceneConfig()
COUNT = 100
QUICK = {"xla_backend_optimization_level": 0}
"""Compile fast, run slowly: each sampler runs once."""
STEP, HULL, SPEED = 0.25, 0.25, 2.5
"""Side of a cell [m], distance to keep from surfaces [m] and speed along each axis [m/s] of :func:`can_be_crossed`."""


@functools.cache
def sampler(family, goals="random"):
    """Compiled keys -> scenes."""
    return jax.jit(jax.vmap(make_scene_sampler(family, goals, CONFIG)), compiler_options=QUICK)


@functools.cache
def drawn(family, goals="random", count=COUNT):
    return sampler(family, goals)(jax.random.split(jax.random.key(7), count))


def scene_at(scenes, index):
    return jax.tree.map(lambda leaf: leaf[index], scenes)


nearest = jax.jit(jax.vmap(lambda scene, x: jnp.min(surface_distances(scene.obstacles, x))), compiler_options=QUICK)
distances_at = jax.jit(jax.vmap(surface_distances, in_axes=(None, 0)))


def can_be_crossed(scene) -> bool:
    """Whether cells of a grid along the flight lead from start to goal, each clear while it is passed.

    All cells that can be reached by a time are found at once; obstacles move meanwhile, and waiting is allowed.
    """
    start, goal = np.asarray(scene.start, np.float64), np.asarray(scene.goal, np.float64)
    along = (goal - start) * [1.0, 1.0, 0.0]
    length = np.linalg.norm(along)
    along /= length
    climb = goal[2] - start[2]
    heights = np.arange(min(climb, 0.0) - 1.25, max(climb, 0.0) + 1.26, STEP)
    axes = [np.arange(-1.0, length + 1.0, STEP), np.arange(-4.0, 4.01, STEP), heights]
    forward, aside, up = np.meshgrid(*axes, indexing="ij")
    across = np.array([-along[1], along[0], 0.0])
    cells = start + forward[..., None] * along + aside[..., None] * across + up[..., None] * [0.0, 0.0, 1.0]
    points = jnp.asarray(cells.reshape(-1, 3), jnp.float32)

    def clear(obstacles):
        distances = distances_at(obstacles, points)
        return np.asarray(distances.min(axis=1, initial=1e3)).reshape(cells.shape[:3]) > HULL

    def cell_of(point):
        gaps = np.linalg.norm(cells - point, axis=-1)
        return np.unravel_index(np.argmin(gaps), gaps.shape)

    reached, wanted = np.zeros(cells.shape[:3], bool), cell_of(goal)
    reached[cell_of(start)] = True
    resting, moving = (of_motion(scene.obstacles, moves) for moves in (False, True))
    moves, still = moving.active.shape[0] > 0, clear(resting)
    for step in range(1, 200):
        before = reached
        for axis in range(3):
            reached = grown(reached, axis)
        reached = reached & (still & clear(moving.at(step * STEP / SPEED)) if moves else still)
        if reached[wanted]:
            return True
        if not moves and np.array_equal(reached, before):
            return False
    return False


def of_motion(obstacles, moves):
    """The obstacles that move, or those at rest with the ground."""

    def some(solids):
        rows = np.flatnonzero(np.any(np.asarray(solids.velocity) != 0.0, axis=-1) == moves)
        return jax.tree.map(lambda leaf: leaf[rows], solids)

    ground = jax.tree.map(lambda leaf: leaf[:0], obstacles.ground) if moves else obstacles.ground
    return Obstacles(some(obstacles.capsules), some(obstacles.boxes), some(obstacles.cylinders), ground)


def grown(cells, axis):
    """The cells and their neighbours along an axis."""
    pad = [(int(each == axis), int(each == axis)) for each in range(3)]
    wide = np.pad(cells, pad)
    size = cells.shape[axis]
    return np.logical_or.reduce([np.take(wide, range(first, first + size), axis) for first in range(3)])
