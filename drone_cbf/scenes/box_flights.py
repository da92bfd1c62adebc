"""Flights between two points of a box among spheres, as in ``fixed_ring`` and ``random_cloud``."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between
from drone_cbf.physics.obstacles import Obstacles, obstacles_of, surface_distances
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.scenes.scene import Scene

CANDIDATES = 24  # Starts and goals drawn per scene; the first that is clear of the obstacles is used
SMALLEST_FLIGHT = 1.5  # Smallest distance between random start and goal [m]
SHIFT = (0.6, -0.5, 0.4)  # Displacement of the ``shifted`` goal from the ``trained`` one [m]


def spheres(centre: Float[Array, "m 3"], radius: Float[Array, "m"], active: Array) -> Obstacles:
    """Spheres at rest."""
    half_height, velocity = jnp.zeros_like(radius), jnp.zeros_like(centre)
    return obstacles_of(Capsules(centre, radius, half_height, velocity, active))


def box_flight(draw: dict[str, Array], goals: GoalMode, config: SceneConfig, obstacles: Obstacles) -> Scene:
    """Scene between two points of the cloud's box, clear if possible, from uniform ``starts`` and ``goals``, (c, 3)."""
    half = jnp.asarray(config.cloud_half_extent)
    distances = jax.vmap(lambda point: jnp.min(surface_distances(obstacles, point)))
    if goals == "random":
        choices = half * between(draw["goals"], -1.0, 1.0)
        goal = choices[jnp.argmax(distances(choices) > config.clearance)]
    else:
        goal = jnp.asarray(SHIFT if goals == "shifted" else (0.0, 0.0, 0.0))
    starts = half * between(draw["starts"], -1.0, 1.0)
    apart = jnp.linalg.norm(starts - goal, axis=-1) > SMALLEST_FLIGHT
    # Distance to the goal has priority: an obstacle at the start is removed later, a start at the goal is not.
    start = starts[jnp.argmax(2.0 * apart + (distances(starts) > config.clearance))]
    zero = jnp.zeros(3)
    return Scene(obstacles=obstacles, start=start, start_velocity=zero, goal=goal, wind=zero, gust=zero)
