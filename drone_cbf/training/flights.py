"""Batches of fresh flights for the learning stages: collect states, measure a controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.flights import Flyer, fly_all
from drone_cbf.objectives.metrics import FlightMetrics
from drone_cbf.perception.graphs import Graph
from drone_cbf.rollout import ControllerParams
from drone_cbf.training.batches import make_batch_sampler

FlightMeasure = Callable[[ControllerParams, float, float, jax.Array], FlightMetrics]
"""(controller parameters, noise [m], augment, key) -> figures with a leading axis of flights."""
GraphCollector = Callable[[ControllerParams, float, float, jax.Array], Graph]
"""(controller parameters, largest noise [m], augment, key) -> graphs with one leading axis, flights times steps."""


def make_flight_measure(
    system: SystemConfig, fly: Flyer, families: Sequence[SceneName], flights: int
) -> FlightMeasure:
    """Function that flies ``flights`` fresh scenes and returns the figures of each."""
    sample = jax.jit(make_batch_sampler(system, families, flights))

    def measure(params: ControllerParams, noise: float, augment: float, key: jax.Array) -> FlightMetrics:
        scene_key, flight_key = jax.random.split(key)
        keys = jax.random.split(flight_key, flights)
        levels = jnp.full(flights, noise, jnp.float32)
        return fly_all(fly, params, sample(scene_key, augment), levels, keys, lambda flown: flown.metrics)

    return measure


def make_graph_collector(
    system: SystemConfig, fly: Flyer, families: Sequence[SceneName], flights: int
) -> GraphCollector:
    """Function that flies fresh scenes and returns every graph the controller saw.

    Each flight draws its own noise level up to the given one.
    """
    sample = jax.jit(make_batch_sampler(system, families, flights))

    def collect(params: ControllerParams, noise: float, augment: float, key: jax.Array) -> Graph:
        scene_key, flight_key, noise_key = jax.random.split(key, 3)
        keys = jax.random.split(flight_key, flights)
        levels = noise * jax.random.uniform(noise_key, (flights,))
        graphs = fly_all(
            fly, params, sample(scene_key, augment), levels, keys, lambda flown: flown.trajectories.graphs
        )
        return jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), graphs)

    return collect


def report_key(root: jax.Array, purpose: int) -> jax.Array:
    """Key for a measurement beside the updates: apart from every step's key, the same in a resumed run."""
    return jax.random.fold_in(jax.random.fold_in(root, 2**31 - 1), purpose)
