"""Flights along x from a start line to a goal line, in a random direction if goals are random."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Vector
from drone_cbf.config import GoalMode
from drone_cbf.draws import between, standard_normal
from drone_cbf.physics.obstacles import Obstacles
from drone_cbf.scenes.scene import Scene, turned

CROSSING: dict[str, tuple[int, ...]] = {"start": (3,), "goal": (3,), "wind": (3,), "yaw": ()}
"""Draws used by :func:`ends` and :func:`crossing`, uniform in [0, 1)."""


@dataclass(frozen=True)
class Course:
    """Where a family is crossed."""

    length: float  # From the start line to the goal line [m]
    half_width: float  # Starts and random goals lie at most this far from the x axis [m]
    half_height: float  # The same vertically [m]
    shift: tuple[float, float] = (3.0, 0.5)  # Of the ``shifted`` goal from the ``trained`` one, across and up [m]
    wind: float = 0.0  # Standard deviation of the horizontal mean wind [m/s]; a fifth of it vertically
    gust: float = 0.0  # Standard deviation of gusts as a fraction of it
    moving: bool = False  # Whether obstacles move


def ends(draw: dict[str, Array], goals: GoalMode, course: Course) -> tuple[Vector, Vector]:
    """Start and goal [m] along x."""
    side = jnp.array([0.0, course.half_width, course.half_height])
    start = side * between(draw["start"], -1.0, 1.0)
    across = {"trained": jnp.zeros(3), "shifted": jnp.array([0.0, *course.shift])}.get(goals)
    if across is None:
        across = side * between(draw["goal"], -1.0, 1.0)
    return start, across.at[0].set(course.length)


def crossing(
    obstacles: Obstacles, way: tuple[Vector, Vector], draw: dict[str, Array], goals: GoalMode, course: Course
) -> Scene:
    """The scene of a flight from start to goal, the ends of ``way`` [m], turned if goals are random."""
    start, goal = way
    spread = course.wind * jnp.array([1.0, 1.0, 0.2])
    scene = Scene(
        obstacles=obstacles,
        start=start,
        start_velocity=jnp.zeros(3),
        goal=goal,
        wind=spread * standard_normal(draw["wind"]),
        gust=course.gust * spread,
    )
    if goals != "random":
        return scene
    return turned(scene, between(draw["yaw"], 0.0, 2.0 * math.pi), moving=course.moving)
