"""Many flights at once, flown and measured: for figures, for states to learn from, for pictures.

Chunks have one size whatever the purpose, so that one compiled program serves every stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.config import SystemConfig
from drone_cbf.devices import shard_batch
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.objectives.metrics import FlightMetrics, make_flight_metrics
from drone_cbf.physics.randomisation import with_nominal_drone
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Controller, ControllerParams, Trajectory, make_rollout

CHUNK = 128
"""Flights that one device computes at once: more would not run faster and need more memory."""
Kept = TypeVar("Kept")


@struct.dataclass
class Flown:
    """Flights in full; leading axis of flights."""

    trajectories: Trajectory
    metrics: FlightMetrics
    clearance: Float[Array, "f t"]
    """Least distance of the hull to any surface during each step [m]."""


Flyer = Callable[[ControllerParams, Scene, Array, Array], Flown]
"""(controller parameters, scenes, noise of each flight [m], keys) -> flights; compiled once for one number of
flights."""


def make_flyer(system: SystemConfig, controller: Controller, horizon: int) -> Flyer:
    """Compiled function that flies scenes (leading axis) for ``horizon`` steps, shared out to the devices.

    The drone of every scene is spelt out, the configured one where the scene names none: one program for both.
    """
    rollout = make_rollout(system, controller, horizon)
    metrics = make_flight_metrics(system)

    def one(params: ControllerParams, scene: Scene, noise: Array, key: Array) -> Flown:
        flown = rollout(params, scene, noise, key)
        clearance = jnp.min(swept_clearances(flown, scene, system.physics), axis=-1)
        return Flown(trajectories=flown, metrics=metrics(flown, scene), clearance=clearance)

    def fly(params: ControllerParams, scenes: Scene, noise: Array, keys: Array) -> Flown:
        return shard_batch(jax.vmap(one, in_axes=(None, 0, 0, 0))(params, *shard_batch((scenes, noise, keys))))

    compiled = jax.jit(fly)
    named = jax.jit(jax.vmap(lambda scene: with_nominal_drone(scene, system.physics)))

    def flyer(params: ControllerParams, scenes: Scene, noise: Array, keys: Array) -> Flown:
        return compiled(params, named(scenes) if scenes.drone is None else scenes, noise, keys)

    return flyer


def chunk_size() -> int:
    """Flights that all devices together compute at once."""
    return CHUNK * jax.device_count()


def fly_all(
    fly: Flyer, params: ControllerParams, scenes: Scene, noise: Array, keys: Array, keep: Callable[[Flown], Kept]
) -> Kept:
    """What ``keep`` takes from the flights in ``scenes``, on the host: flown in chunks, joined on axis 0."""
    count = keys.shape[0]
    size = min(count, chunk_size())
    params, parts = jax.device_get(params), []
    for first in range(0, count, size):
        # The last flight is repeated where a chunk would be short: another shape would be compiled anew.
        rows = np.minimum(np.arange(first, first + size), count - 1)
        flown = fly(params, jax.tree.map(lambda x, rows=rows: x[rows], scenes), noise[rows], keys[rows])
        parts.append(jax.tree.map(lambda x, first=first: np.asarray(x)[: count - first], keep(flown)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
