"""Batches of flights for the learning stages: collect states, measure a controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.objectives.metrics import FlightMetrics, make_flight_metrics
from drone_cbf.perception.graphs import Graph
from drone_cbf.rollout import Controller, ControllerParams, make_rollout
from drone_cbf.training.batches import make_batch_sampler

FlightMeasure = Callable[[ControllerParams, Scalar, Scalar, jax.Array], FlightMetrics]
"""(controller parameters, noise [m], augment, key) -> figures with a leading axis of flights."""


def make_flight_measure(
    system: SystemConfig, controller: Controller, families: Sequence[SceneName], flights: int, horizon: int
) -> FlightMeasure:
    """Compiled function that flies ``flights`` fresh scenes and returns the figures of each."""
    rollout = make_rollout(system, controller, horizon)
    sample = make_batch_sampler(system, families, flights)
    metrics = make_flight_metrics(system)

    @jax.jit
    def measure(params: ControllerParams, noise: Scalar, augment: Scalar, key: jax.Array) -> FlightMetrics:
        scene_key, flight_key = jax.random.split(key)
        scenes = sample(scene_key, augment)
        keys = jax.random.split(flight_key, flights)
        return jax.vmap(lambda scene, k: metrics(rollout(params, scene, noise, k), scene))(scenes, keys)

    return measure


GraphCollector = Callable[[ControllerParams, jax.Array], Graph]
"""(controller parameters, key) -> graphs with one leading axis, flights times steps."""


def make_graph_collector(
    system: SystemConfig,
    controller: Controller,
    families: Sequence[SceneName],
    *,
    flights: int,
    horizon: int,
    noise: float,
    augment: float,
) -> GraphCollector:
    """Compiled function that flies fresh scenes and returns every graph the controller saw.

    Each flight draws its own noise level up to ``noise`` [m].
    """
    rollout = make_rollout(system, controller, horizon)
    sample = make_batch_sampler(system, families, flights)

    @jax.jit
    def collect(params: ControllerParams, key: jax.Array) -> Graph:
        scene_key, flight_key, noise_key = jax.random.split(key, 3)
        scenes = sample(scene_key, augment)
        keys = jax.random.split(flight_key, flights)
        levels = noise * jax.random.uniform(noise_key, (flights,))
        graphs = jax.vmap(lambda scene, level, k: rollout(params, scene, level, k).graphs)(scenes, levels, keys)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), graphs)

    return collect


def report_key(root: jax.Array, purpose: int) -> jax.Array:
    """Key for a measurement beside the updates: apart from every step's key, the same in a resumed run."""
    return jax.random.fold_in(jax.random.fold_in(root, 2**31 - 1), purpose)
