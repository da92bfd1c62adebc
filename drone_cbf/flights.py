"""Fly and measure many flights at once, in chunks of one size, so that one compiled program serves every stage."""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, Pilot, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.devices import run_sharded, shard_batch, to_host
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.objectives.metrics import FlightMetrics, make_flight_metrics
from drone_cbf.rollout import Trajectory, flights_of_swarms, make_rollout
from drone_cbf.scenes.scene import Scene, with_nominal_drone

CHUNK = 128  # Flights per device and call; more would not run faster and would need more memory
SWARM_CHUNK = 512
"""The same of drones in swarms, in whole scenes: so many decide together (:mod:`drone_cbf.crowd`)."""
MEASURED_AT_ONCE = 32  # Drones of swarms; distances to all obstacles in all steps of more do not fit into caches
Kept = TypeVar("Kept")


@struct.dataclass
class Flown:
    """Complete flights; every leaf has a leading axis of flights."""

    trajectories: Trajectory
    metrics: FlightMetrics
    clearance: Float[Array, "f t"]  # Smallest distance between hull and any surface during each step [m]


Flyer = Callable[[ControllerParams, Scene, Array, Array], Flown]
"""(controller parameters, scenes, noise of each flight [m], keys) -> flights; compiled once per number of flights."""


def make_flyer(system: SystemConfig, pilot: Pilot, horizon: int) -> Flyer:
    """Compiled function that flies scenes (leading axis) for ``horizon`` steps, sharded over the devices; those of
    swarms give a flight for each drone, in order."""
    rollout = make_rollout(system, pilot, horizon)
    metrics = make_flight_metrics(system)

    def one(params: ControllerParams, scene: Scene, noise: Array, key: Array) -> Flown:
        flown = rollout(params, scene, noise, key)
        return Flown(flown, *measured((flown, scene)))

    def measured(flight: tuple[Trajectory, Scene]) -> tuple[FlightMetrics, Array]:
        clearance = jnp.min(swept_clearances(*flight, system.physics), axis=-1)
        return metrics(*flight), clearance

    def swarms(params: ControllerParams, scenes: Scene, noise: Array, keys: Array) -> Flown:
        flown = jax.vmap(rollout, in_axes=(None, 0, 0, 0))(params, scenes, noise, keys)
        flights = flights_of_swarms(flown, scenes)
        return Flown(flights[0], *jax.lax.map(measured, flights, batch_size=MEASURED_AT_ONCE))

    def fly(params: ControllerParams, scenes: Scene, noise: Array, keys: Array) -> Flown:
        scenes, noise, keys = shard_batch((scenes, noise, keys))
        if scenes.start.ndim == 3:
            # Each device by itself: drones that need more work than others are picked out of a batch in every step.
            return run_sharded(swarms, params, scenes, noise, keys)
        return shard_batch(jax.vmap(one, in_axes=(None, 0, 0, 0))(params, scenes, noise, keys))

    compiled = jax.jit(fly)
    # Scenes without a drone of their own get the configured one, so that one program serves both kinds.
    named = jax.jit(jax.vmap(lambda scene: with_nominal_drone(scene, system.physics)))

    def flyer(params: ControllerParams, scenes: Scene, noise: Array, keys: Array) -> Flown:
        return compiled(params, named(scenes) if scenes.drone is None else scenes, noise, keys)

    return flyer


@functools.lru_cache(maxsize=8)
def policy_flyer(system: SystemConfig, filtered: bool, horizon: int) -> Flyer:
    """The flyer of the policy behind the filter or alone. Made once per process, so that stages of a pipeline, which
    fly the same system, share its compiled programs."""
    if filtered:
        return make_flyer(system, make_filtered_pilot(system), horizon)
    fly = make_flyer(system, make_unfiltered_pilot(system), horizon)
    # One program for controllers with a barrier and without: it is not used.
    return lambda params, *flights: fly(params.replace(barrier=None), *flights)


def drones_of(scenes: Scene) -> int:
    """Drones that fly at once in each of ``scenes`` (leading axis)."""
    return scenes.start.shape[1] if scenes.start.ndim == 3 else 1


def chunk_size(drones: int = 1) -> int:
    """Scenes of ``drones`` at once per call over all devices."""
    return (CHUNK if drones == 1 else max(1, SWARM_CHUNK // drones)) * jax.device_count()


def scenes_at_once(count: int, drones: int) -> int:
    """How many of ``count`` scenes, each of ``drones``, :func:`fly_all` flies in one call."""
    return min(count, chunk_size(drones))


def fly_all(
    fly: Flyer, params: ControllerParams, scenes: Scene, noise: Array, keys: Array, keep: Callable[[Flown], Kept]
) -> Kept:
    """Fly all ``scenes`` in chunks and return ``keep(flown)``, concatenated on axis 0, on the host.

    ``noise`` and ``keys``: one for each scene, also of a swarm."""
    count, drones = keys.shape[0], drones_of(scenes)
    size = scenes_at_once(count, drones)
    params, parts = to_host(params), []
    for first in range(0, count, size):
        # Pad a short last chunk by repeating its last flight: a new shape would be compiled again.
        rows = np.minimum(np.arange(first, first + size), count - 1)
        flown = fly(params, jax.tree.map(lambda x, rows=rows: x[rows], scenes), noise[rows], keys[rows])
        parts.append(jax.tree.map(lambda x, first=first: x[: (count - first) * drones], to_host(keep(flown))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
