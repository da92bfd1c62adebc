"""Obstacles that move through a scene at constant velocity."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.draws import between
from drone_cbf.physics.obstacles import swept_distances
from drone_cbf.scenes.scene import Scene

STEEPEST = 0.1  # Largest angle of a path with the horizontal [rad]
MEETING = 6.0  # An obstacle is at its random place at a time up to this one [s], while a flight may be near
AT_THE_GOAL = 15.0  # No obstacle comes near the goal within this time [s]: the longest flight of a shipped curriculum
AT_THE_START = 1.5  # The same of the start [s]


def path_draws(count: int) -> dict[str, tuple[int, ...]]:
    """Draws used by :func:`velocities` and :func:`moved_back`, uniform in [0, 1)."""
    return {"heading": (count,), "climb": (count,), "speed": (count,), "meeting": (count,)}


def velocities(draw: dict[str, Array], speed: tuple[float, float]) -> Float[Array, "n 3"]:
    """Random velocities of this smallest and largest magnitude [m/s], nearly horizontal."""
    heading, climb = 2.0 * math.pi * draw["heading"], STEEPEST * between(draw["climb"], -1.0, 1.0)
    level = jnp.cos(climb)
    direction = jnp.stack([level * jnp.cos(heading), level * jnp.sin(heading), jnp.sin(climb)], -1)
    return between(draw["speed"], *speed)[:, None] * direction


def moved_back(
    place: Float[Array, "n 3"], velocity: Float[Array, "n 3"], draw: dict[str, Array]
) -> Float[Array, "n 3"]:
    """Positions at time zero of obstacles that pass ``place`` [m] at a random time: they fill the scene meanwhile."""
    return place - MEETING * draw["meeting"][:, None] * velocity


def paths_cleared(scene: Scene, clearance: float) -> Scene:
    """The scene without obstacles that come nearer than ``clearance`` [m] to the goal or, early, to the start."""
    near_start = swept_distances(scene.obstacles, scene.start, scene.start, AT_THE_START) < clearance
    near_goal = swept_distances(scene.obstacles, scene.goal, scene.goal, AT_THE_GOAL) < clearance
    return scene.replace(obstacles=scene.obstacles.only(~near_start & ~near_goal))
