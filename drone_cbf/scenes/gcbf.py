"""``gcbf_linear``: a swarm among spheres in a cube, as GCBF+ draws it for its LinearDrone (Zhang et al., T-RO 2025).

Centres of obstacles are uniform in the cube and may overlap. Starts and goals are drawn one after the other, uniform
among the places that are far enough from the earlier ones of their kind and from obstacles.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import FAR, Obstacles, surface_distances
from drone_cbf.scenes.box_flights import spheres
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

TRIES = 64  # Places tried for each start and goal; if none is free, the freest is taken


def slots(config: SceneConfig) -> Slots:
    """Spheres."""
    return Slots(capsules=config.gcbf_obstacles)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """``config.drones`` starts and goals, at rest in still air. Goals are random whatever ``goals`` says: the swarm has
    no fixed ones."""
    count, drones = config.gcbf_obstacles, config.drones
    places = (drones, TRIES, 3)
    draw = uniform_draws(key, centre=(count, 3), radius=(count,), starts=places, goals=places)
    radius = between(draw["radius"], *config.gcbf_radius)
    obstacles = spheres(config.gcbf_side * draw["centre"], radius, jnp.ones(count, bool))
    start, goal = (apart(config.gcbf_side * draw[end], obstacles, config.gcbf_apart) for end in ("starts", "goals"))
    zero = jnp.zeros(3, jnp.float32)
    return Scene(
        obstacles=obstacles, start=start, start_velocity=jnp.zeros_like(start), goal=goal, wind=zero, gust=zero
    )


def apart(tried: Float[Array, "n c 3"], obstacles: Obstacles, distance: float) -> Float[Array, "n 3"]:
    """Of each row of places the first that is more than ``distance`` [m] from the obstacles and from those chosen in
    earlier rows; if there is none, the one that is farthest from them."""
    room = jax.vmap(jax.vmap(lambda place: jnp.min(surface_distances(obstacles, place), initial=FAR)))(tried)

    def choose(index: Array, chosen: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
        earlier = jnp.arange(chosen.shape[0]) < index
        away = jnp.linalg.norm(tried[index][:, None] - chosen, axis=-1)
        free = jnp.minimum(room[index], jnp.min(jnp.where(earlier, away, FAR), axis=-1))
        fits = free > distance
        best = jnp.where(jnp.any(fits), jnp.argmax(fits), jnp.argmax(free))
        return chosen.at[index].set(tried[index, best])

    return jax.lax.fori_loop(0, tried.shape[0], choose, jnp.zeros((tried.shape[0], 3), jnp.float32))
