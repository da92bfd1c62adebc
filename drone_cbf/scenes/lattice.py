"""Swarms at rest on a lattice."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drone_cbf.config import SceneConfig
from drone_cbf.draws import between
from drone_cbf.physics.obstacles import Obstacles, surface_distances
from drone_cbf.scenes.scene import Scene

PITCH = 1.5  # Distance between neighbours of a lattice, as a multiple of ``swarm_spacing``
JITTER = 0.25  # Largest displacement along each axis, likewise: ``swarm_spacing`` is left between neighbours


def behind_each_other(count: int, columns: int, config: SceneConfig) -> Float[np.ndarray, "n 3"]:
    """``count`` places [m] in layers of ``columns`` by ``columns`` about the x axis, from x = 0 backwards."""
    index = np.arange(count)
    layer, rest = np.divmod(index, columns * columns)
    across, up = np.divmod(rest, columns)
    middle = 0.5 * (columns - 1)
    places = np.stack([-layer, across - middle, up - middle], axis=-1)
    return (PITCH * config.swarm_spacing * places).astype(np.float32)


def depth(count: int, columns: int, config: SceneConfig) -> float:
    """From the first to the last layer [m]."""
    return (math.ceil(count / columns**2) - 1) * PITCH * config.swarm_spacing


def jittered(draw: Float[Array, "n 3"], places: Float[Array, "n 3"], config: SceneConfig) -> Float[Array, "n 3"]:
    """``places`` displaced by uniform ``draw`` in [0, 1)."""
    return places + JITTER * config.swarm_spacing * between(draw, -1.0, 1.0)


def at_rest(obstacles: Obstacles, start: Float[Array, "n 3"], goal: Float[Array, "n 3"]) -> Scene:
    """The scene in still air."""
    zero = jnp.zeros(3)
    return Scene(
        obstacles=obstacles, start=start, start_velocity=jnp.zeros_like(start), goal=goal, wind=zero, gust=zero
    )


def without_near(scene: Scene, distance: float) -> Scene:
    """The scene without obstacles within ``distance`` [m] of a start or goal."""
    places = jnp.concatenate([scene.start, scene.goal])
    near = jnp.any(jax.vmap(lambda place: surface_distances(scene.obstacles, place))(places) < distance, axis=0)
    return scene.replace(obstacles=scene.obstacles.only(~near))
