"""Small systems and hand-made worlds, seen without noise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import BarrierConfig, PhysicsConfig, PolicyConfig, SceneConfig, SensorConfig, SystemConfig
from drone_cbf.perception.graphs import Graph, build_graph
from drone_cbf.perception.sensors import SensorNoise, observe_surfaces
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import Obstacles, obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.physics.solids.capsules import Capsules
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.scenes.scene import Scene

PLAIN = PhysicsConfig(lag_time=0.0, delay=0.0, linear_drag=0.0, quadratic_drag=0.0)
"""A command acts at once and alone."""


def small_system(**sections) -> SystemConfig:
    """Networks a few features wide; other ``sections`` as given."""
    small = {
        "policy": PolicyConfig(features=8, node_features=8),
        "barrier": BarrierConfig(features=8),
    }
    return SystemConfig(**(small | sections))


def lidar_system(rays=(16, 8), lidar=None, **sections) -> SystemConfig:
    """A small system with a scanner of azimuths × elevations; ``lidar``: further fields of the sensor."""
    fields = {"kind": "lidar", "lidar_azimuths": rays[0], "lidar_elevations": rays[1], **(lidar or {})}
    return small_system(sensor=SensorConfig(**fields), **sections)


def few_obstacles(count: int, **fields) -> SceneConfig:
    """Scenes of ``count`` obstacles each; the forest is a single row of them. Other ``fields`` as given."""
    few = {"obstacles": count, "cloud_obstacles": count, "ring_obstacles": count, "forest_spacing": 18.0 / count}
    return SceneConfig(**(few | fields))


def capsules(centre, radius, half_height=0.0, velocity=0.0) -> Obstacles:
    """Active obstacles from anything that broadcasts to one row each, in the widest float type enabled."""
    centre = jnp.asarray(centre, float)
    count = centre.shape[0]
    return obstacles_of(
        Capsules(
            centre=centre,
            radius=_broadcast(radius, (count,)),
            half_height=_broadcast(half_height, (count,)),
            velocity=_broadcast(velocity, (count, 3)),
            active=jnp.asarray(np.ones(count, bool)),
        )
    )


def _broadcast(value, shape):
    """By numpy where it can: each shape would be one more program to compile."""
    array = jnp.asarray(value, float)
    if isinstance(array, jax.core.Tracer):
        return jnp.broadcast_to(array, shape)
    return jnp.asarray(np.broadcast_to(np.asarray(array), shape))


def boxes(centre, half_size) -> Obstacles:
    """Boxes at rest along the world's axes."""
    centre = jnp.asarray(centre, float)
    count = centre.shape[0]
    return obstacles_of(
        boxes=Boxes(
            centre=centre,
            half_size=_broadcast(half_size, (count, 3)),
            rotation=_broadcast(np.eye(3), (count, 3, 3)),
            velocity=_broadcast(0.0, (count, 3)),
            active=jnp.asarray(np.ones(count, bool)),
        )
    )


def room(half=(3.0, 2.5, 2.0), thickness=0.5) -> Obstacles:
    """Six slabs around a cuboid of +-``half`` [m]: every ray from inside ends on one."""
    sides = np.array([sign * np.eye(3)[axis] for axis in range(3) for sign in (-1.0, 1.0)])
    centre = sides * (np.asarray(half) + thickness)
    half_size = np.where(sides != 0.0, thickness, np.asarray(half) + 2.0 * thickness)
    return boxes(centre, half_size)


def wall_with_window(x=3.0, middle=(0.0, 0.0), half_opening=0.7, far=5.0, thickness=0.1) -> Obstacles:
    """A wall across x with a square opening around y, z = ``middle`` [m], as four boxes."""
    y, z = middle
    wide = 0.5 * (far - half_opening)
    beside = [(x, y + side * (half_opening + wide), z) for side in (-1, 1)]
    above = [(x, y, z + side * (half_opening + wide)) for side in (-1, 1)]
    return boxes([*beside, *above], [[thickness, wide, far]] * 2 + [[thickness, half_opening, wide]] * 2)


def scene_of(obstacles: Obstacles, start=(0.0, 0.0, 0.0), goal=(3.0, 0.0, 0.0)) -> Scene:
    """A calm scene."""
    zero = jnp.zeros(3)
    return Scene(
        obstacles=obstacles,
        start=jnp.asarray(start, float),
        start_velocity=zero,
        goal=jnp.asarray(goal, float),
        wind=zero,
        gust=zero,
    )


@functools.partial(jax.jit, static_argnums=0)
def graph_seen(system: SystemConfig, obstacles: Obstacles, position, velocity, goal=(3.0, 0.0, 0.0)) -> Graph:
    """What a perfect sensor shows a drone there [m, m/s]."""
    position, velocity = jnp.asarray(position), jnp.asarray(velocity)
    zero = jnp.zeros(3)
    exact = SensorNoise(position=zero, velocity=zero, points=jnp.zeros_like(obstacles.velocity))
    surfaces = observe_surfaces(obstacles, position, exact, system.sensor)
    motion = Motion(position=position, velocity=velocity, thrust=zero)
    return build_graph(motion, surfaces, jnp.asarray(goal), nominal_params(system.physics), system.sensor)


def scattered(params, seed: int, size: float = 0.3):
    """Parameters of the same shapes, all random: an untrained network has zeros that would hide mistakes.

    ``params``: arrays or their shapes.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape), leaf.dtype), params)


def random_barrier(system: SystemConfig, seed: int = 0):
    return scattered(_shapes(initial_barrier_params, system), seed)


def random_policy(system: SystemConfig, seed: int = 0):
    return scattered(_shapes(initial_policy_params, system), seed)


@functools.cache
def _shapes(initial, system: SystemConfig):
    """Shapes of a network's parameters: nothing is compiled for them."""
    return jax.eval_shape(functools.partial(initial, system), jax.random.key(0))


def crowd(seed: int, count: int = 30, half=(3.0, 3.0, 1.5)) -> Obstacles:
    """Spheres and trunks in a box [m]."""
    rng = np.random.default_rng(seed)
    return capsules(
        np.asarray(half) * rng.uniform(-1.0, 1.0, (count, 3)),
        rng.uniform(0.1, 0.4, count),
        half_height=np.where(np.arange(count) % 3 == 0, 20.0, 0.0),
    )
