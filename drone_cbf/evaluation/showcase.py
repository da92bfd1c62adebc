"""A few flights and one slice of the barrier, recorded in full: what pictures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.evaluation.matrix import sample_scenes
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.objectives.metrics import FlightMetrics, make_flight_metrics, true_graph
from drone_cbf.physics.point_mass import Motion
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import ControllerParams, Trajectory, make_filtered_controller, make_rollout
from drone_cbf.rollout import make_unfiltered_controller


@dataclass(frozen=True)
class RecordedFlights:
    """Flights with a leading axis."""

    scenario: SceneName
    noise: float
    filtered: bool
    scenes: Scene
    trajectories: Trajectory
    metrics: FlightMetrics
    clearance: Array
    """Swept hull clearance of every step [m], (flights, steps)."""


def record_flights(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    scenario: SceneName,
    *,
    noise: float,
    filtered: bool,
    flights: int,
) -> RecordedFlights:
    """The first ``flights`` random-goal flights of ``scenario`` in the matrix of ``settings``, in full."""
    build = make_filtered_controller if filtered else make_unfiltered_controller
    rollout = make_rollout(system, build(system), settings.horizon)
    metrics = make_flight_metrics(system)
    scenes = jax.tree.map(lambda x: x[:flights], sample_scenes(system, scenario, "random", settings))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 1), settings.rollouts)[:flights]

    def one(scene: Scene, key: jax.Array) -> tuple[Trajectory, FlightMetrics, Array]:
        flown = rollout(controller, scene, jnp.float32(noise), key)
        clearance = jnp.min(swept_clearances(flown, scene, system.physics), axis=-1)
        return flown, metrics(flown, scene), clearance

    trajectories, figures, clearance = jax.jit(jax.vmap(one))(scenes, keys)
    return RecordedFlights(scenario, noise, filtered, scenes, trajectories, figures, clearance)


@dataclass(frozen=True)
class RecordedSlice:
    """Both barriers on a horizontal grid around the middle of a scene, at one velocity."""

    x: np.ndarray
    y: np.ndarray
    """[m], (nx,) and (ny,)."""
    analytic: np.ndarray
    neural: np.ndarray
    """h without margin [m], (ny, nx)."""
    velocity: np.ndarray
    height: float
    scene: Scene


def record_slice(
    system: SystemConfig,
    settings: EvaluationSettings,
    controller: ControllerParams,
    scenario: SceneName,
    *,
    speed: float = 2.0,
    points: int = 121,
) -> RecordedSlice:
    """Barrier values over the box of the clouds at height zero, flying along x with ``speed`` [m/s]."""
    scene = jax.tree.map(lambda x: x[0], sample_scenes(system, scenario, "random", settings))
    half = system.scene.cloud_half_extent
    x, y = (np.linspace(-extent, extent, points, dtype=np.float32) for extent in half[:2])
    velocity = jnp.array([speed, 0.0, 0.0], jnp.float32)
    analytic, neural = make_analytic_barrier(system), make_neural_barrier(system)(controller.barrier)

    def values(position: Array) -> tuple[Array, Array]:
        motion = Motion(position=position, velocity=velocity, thrust=jnp.zeros(3))
        graph = true_graph(motion, scene, jnp.float32(0.0), system, neighbours=system.sensor.neighbours)
        return analytic(graph), neural(graph)

    grid = np.stack([*np.meshgrid(x, y), np.zeros((points, points), np.float32)], -1).reshape(-1, 3)
    taught, learned = jax.jit(lambda places: jax.lax.map(values, places, batch_size=2048))(jnp.asarray(grid))
    return RecordedSlice(
        x=x,
        y=y,
        analytic=np.asarray(taught).reshape(points, points),
        neural=np.asarray(learned).reshape(points, points),
        velocity=np.asarray(velocity),
        height=0.0,
        scene=scene,
    )
