"""Random states on which the barrier is trained: the general sampler, and parts shared by the other strata."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Scalar, unit
from drone_cbf.barrier.spots import SPOT, beside_an_obstacle
from drone_cbf.config import SystemConfig
from drone_cbf.draws import between, standard_normal, uniform_draws
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.obstacles import nearest_surface_points, surface_distances
from drone_cbf.physics.point_mass import Motion
from drone_cbf.scenes.scene import Scene

GraphSampler = Callable[[Scene, jax.Array], Graph]  # (scene, key) -> the graph of one random state in it
MotionSampler = Callable[[Scene, jax.Array], Motion]
"""(scene, key) -> position [m] and velocity [m/s] of one random state in it, without thrust."""
HALVINGS = 14  # Number of halvings; reduces a few metres to less than a millimetre
TOP_SPEED = 1.3  # Largest sampled speed, as a multiple of ``objective.max_speed``


def graph_sampler(sample: MotionSampler, system: SystemConfig) -> GraphSampler:
    """The sampler of what a perfect sensor shows a drone in the states of ``sample``."""
    return lambda scene, key: true_graph(sample(scene, key), scene, None, system, system.sensor.neighbours)


def make_open_sampler(system: SystemConfig) -> MotionSampler:
    """Stratum ``open``: states at exponentially distributed distances from a random surface.

    Headings are often towards the surface, and half of the speeds are near the one at which h is zero.
    """
    cruise = top_speed(system)

    def sample(scene: Scene, key: jax.Array) -> Motion:
        draw = uniform_draws(key, **SPOT, aside=(3,), aim=(), speed=(), near=(), kind=())
        position = beside_an_obstacle(scene, draw, system)
        points = nearest_surface_points(scene.obstacles, position)
        distances = surface_distances(scene.obstacles, position)
        nearest = jnp.argmin(distances)
        towards = unit(points[nearest] - position)
        heading = unit(standard_normal(draw["aside"]) + 2.0 * draw["aim"] * towards)
        speed = cruise * draw["speed"] ** 1.5
        critical = critical_speed(distances[nearest], system) * between(draw["near"], 0.6, 1.4)
        speed = jnp.where(draw["kind"] < 0.5, speed, jnp.minimum(critical, cruise))
        return Motion(position=position, velocity=speed * heading, thrust=jnp.zeros(3))

    return sample


def bisect(above: Callable[[Scalar], jax.Array], end: float) -> Scalar:
    """Where ``above`` changes from false to true on [0, ``end``], to ``end`` / 2^14; an end point if it does not."""

    def halve(_: jax.Array, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = 0.5 * (low + high)
        beyond = above(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.float32(0.0), jnp.float32(end)))
    return 0.5 * (low + high)


def top_speed(system: SystemConfig) -> float:
    """Largest sampled speed [m/s]."""
    return TOP_SPEED * system.objective.max_speed


def critical_speed(distance: Array, system: SystemConfig) -> Array:
    """Head-on speed at which the braking barrier is zero at surface distance ``distance`` [m/s]."""
    barrier = system.barrier
    room = jnp.maximum(distance - system.physics.drone_radius - barrier.safety_margin, 0.0)
    reach = barrier.braking * barrier.reaction_time
    return jnp.sqrt(reach**2 + 2.0 * barrier.braking * room) - reach
