"""Random states to teach the barrier on: near surfaces, in gaps, at speed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Vector, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph, build_graph
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.obstacles import nearest_surface_points, surface_distances
from drone_cbf.physics.point_mass import Motion
from drone_cbf.physics.scenes import Scene

GraphSampler = Callable[[Scene, jax.Array], Graph]
"""(scene, key) -> the graph of one random state in it."""


def make_graph_sampler(system: SystemConfig) -> GraphSampler:
    """Function that places a drone at random in a scene, mostly where the barrier matters.

    The drone stands at a random distance, exponentially distributed, from a random surface (so also between two),
    and flies at a random speed, often towards it, rarely slower than would bring h near zero.
    """
    cruise = 1.3 * system.objective.max_speed

    def sample(scene: Scene, key: jax.Array) -> Graph:
        keys = jax.random.split(key, 6)
        position = _beside_an_obstacle(scene, keys[0], system)
        points = nearest_surface_points(scene.obstacles, position)
        distances = surface_distances(scene.obstacles, position)
        nearest = jnp.argmin(distances)
        towards = unit(points[nearest] - position)
        heading = unit(jax.random.normal(keys[1], (3,)) + 2.0 * jax.random.uniform(keys[2]) * towards)
        speed = cruise * jax.random.uniform(keys[3]) ** 1.5
        critical = _critical_speed(distances[nearest], system) * (0.6 + 0.8 * jax.random.uniform(keys[4]))
        speed = jnp.where(jax.random.uniform(keys[5]) < 0.5, speed, jnp.minimum(critical, cruise))
        surfaces = Surfaces(
            points=points,
            velocity=scene.obstacles.velocity,
            visible=scene.obstacles.active & (distances < system.sensor.range),
        )
        motion = Motion(position=position, velocity=speed * heading, thrust=jnp.zeros(3))
        return build_graph(motion, surfaces, scene.goal, nominal_params(system.physics), system.sensor)

    return sample


def _beside_an_obstacle(scene: Scene, key: jax.Array, system: SystemConfig) -> Vector:
    """A point at an exponentially distributed distance from the surface of one random active obstacle [m]."""
    pick, direction_key, distance_key, height_key = jax.random.split(key, 4)
    obstacles = scene.obstacles
    index = jax.random.categorical(pick, jnp.where(obstacles.active, 0.0, -jnp.inf))
    trunk = obstacles.half_height[index] > 0.0
    direction = jax.random.normal(direction_key, (3,)) * jnp.where(trunk, jnp.array([1.0, 1.0, 0.0]), 1.0)
    distance = 0.5 * system.physics.drone_radius + 0.8 * jax.random.exponential(distance_key)
    height = jnp.where(trunk, jax.random.uniform(height_key, minval=-1.0), 0.0)
    centre = obstacles.centre[index] + jnp.array([0.0, 0.0, 1.0]) * height
    return centre + unit(direction) * (obstacles.radius[index] + distance)


def _critical_speed(distance: Array, system: SystemConfig) -> Array:
    """Head-on speed at which the braking barrier is zero at surface distance ``distance`` [m/s]."""
    barrier = system.barrier
    room = jnp.maximum(distance - system.physics.drone_radius - barrier.safety_margin, 0.0)
    reach = barrier.braking * barrier.reaction_time
    return jnp.sqrt(reach**2 + 2.0 * barrier.braking * room) - reach
