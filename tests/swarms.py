"""Small swarms: a system and scenes in which several drones fly at once."""

import jax.numpy as jnp
import numpy as np

from drone_cbf.config import PhysicsConfig, SceneConfig, SensorConfig, SystemConfig
from drone_cbf.scenes.scene import Scene
from tests.perception.worlds import capsules, small_system

POST = capsules([[0.0, 1.5, 0.0], [0.0, -3.0, 0.0]], 0.3)


def swarm_system(drones: int, **sections) -> SystemConfig:
    """A small system of ``drones``; the physics are GCBF+'s LinearDrone at a time step of 0.03 s. Other ``sections`` as
    given."""
    linear = PhysicsConfig(model="linear", time_step=0.03, delay=0.0, lag_time=0.0, drone_radius=0.05)
    given = {
        "physics": linear,
        "scene": SceneConfig(drones=drones, clearance=0.05),
        "sensor": SensorConfig(range=1.0, surfaces="raw", neighbours=2, drones=4, length=0.1),
    }
    return small_system(**(given | sections))


def swarm_scene(starts, goals, obstacles=POST) -> Scene:
    """A calm scene of the drones at ``starts`` [m], at rest, with these ``goals`` [m]."""
    starts, goals = (jnp.asarray(np.asarray(ends, np.float32)) for ends in (starts, goals))
    zero = jnp.zeros(3)
    return Scene(
        obstacles=obstacles, start=starts, start_velocity=jnp.zeros_like(starts), goal=goals, wind=zero, gust=zero
    )
