"""Complete records of a few flights and of a slice of the barrier, for figures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.matrix import flight_keys, fly_first, sample_scenes
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.flights import Flown, Flyer, drones_of, scenes_at_once
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.motion import acting_at
from drone_cbf.scenes.families import SWARMS
from drone_cbf.scenes.scene import Scene, per_drone, scene_count


def record_flights(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    fly: Flyer,
    scenario: SceneName,
    *,
    flights: int,
    batch: int,
) -> tuple[Scene, Flown, jax.Array]:
    """The first ``flights`` random-goal flights of ``scenario`` with the largest noise, speed and swarm of the matrix,
    in full but for their graphs; their scenes, and the key of each flight.

    Of a swarm these are whole scenes, at least one: as many flights for each as it has drones, in order.
    ``batch``: flights of a cell that were flown with ``fly`` before, so that nothing is compiled again.
    """
    noise = max(settings.noise)
    fastest = max(settings.speeds, default=None)
    many = max(settings.drones, default=None) if scenario in SWARMS else None
    scenes = sample_scenes(system, scenario, noise, "random", settings, fastest, many)
    drones = drones_of(scenes)
    keys = flight_keys(system, scenario, noise, "random", settings, fastest, many)
    before, wanted = (scene_count(some, drones) for some in (batch, flights))
    keys = keys[: max(min(before, wanted), scenes_at_once(before, drones))]
    flown = fly_first(fly, controller, scenes, noise, keys, _without_graphs)
    some = jax.tree.map(lambda leaf: np.asarray(leaf)[:wanted], scenes)
    kept = jax.tree.map(lambda leaf: leaf[: wanted * drones], flown)
    return some, kept, _own_keys(keys[:wanted], scenes)


def _own_keys(keys: jax.Array, scenes: Scene) -> jax.Array:
    """The key of each flight, as the rollout gives one to each drone of a swarm."""
    if scenes.start.ndim == 2:
        return keys
    return jax.vmap(lambda key: jax.random.split(key, scenes.start.shape[1]))(keys).reshape(-1)


def _without_graphs(flown: Flown) -> Flown:
    """What is shown of flights: their graphs, which nothing shows, take most of the memory."""
    return flown.replace(trajectories=flown.trajectories.replace(graphs=None))


def record_slice(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    scenario: SceneName,
    *,
    speed: float = 2.0,
    points: int = 121,
) -> tuple[dict[str, Any], Scene]:
    """Both barriers at height zero over the box of the clouds, flying along x with ``speed`` [m/s], and the scene.

    ``x``, ``y``: coordinates of the grid [m], (nx,), (ny,); ``analytic``, ``neural``: h without margin [m], (ny, nx);
    ``velocity`` [m/s], (3,); ``height`` [m].
    """
    scenes = per_drone(sample_scenes(system, scenario, max(settings.noise), "random", settings))
    scene = jax.tree.map(lambda x: x[0], scenes)
    half = system.scene.cloud_half_extent
    x, y = (np.linspace(-extent, extent, points, dtype=np.float32) for extent in half[:2])
    velocity = jnp.array([speed, 0.0, 0.0], jnp.float32)
    analytic, neural = make_analytic_barrier(system), make_neural_barrier(system)(controller.barrier)

    def values(position: Array) -> tuple[Array, Array]:
        graph = true_graph(acting_at(position, velocity), scene, None, system, system.sensor.neighbours)
        return analytic(graph), neural(graph)

    grid = np.stack([*np.meshgrid(x, y), np.zeros((points, points), np.float32)], -1).reshape(-1, 3)
    taught, learned = jax.jit(lambda places: jax.lax.map(values, places, batch_size=2048))(jnp.asarray(grid))
    fields = {
        "x": x,
        "y": y,
        "analytic": np.asarray(taught).reshape(points, points),
        "neural": np.asarray(learned).reshape(points, points),
        "velocity": np.asarray(velocity),
        "height": 0.0,
    }
    return fields, scene
