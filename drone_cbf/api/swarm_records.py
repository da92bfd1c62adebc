"""Simulated flights of whole swarms as the plain numpy records that figures are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from drone_cbf.api.flight_records import obstacles_of
from drone_cbf.config import SystemConfig
from drone_cbf.flights import Flown
from drone_cbf.objectives.metrics import arrival
from drone_cbf.reporting.swarms import SwarmFlight
from drone_cbf.rollout import Trajectory
from drone_cbf.scenes.scene import Scene, per_drone


def swarm_of(
    scene: Scene, flown: Flown, system: SystemConfig, name: str, noise: float, *, filtered: bool = True, cell: str = ""
) -> SwarmFlight:
    """The swarm that flew ``scene``, its own start and goal for each drone; ``flown``: a flight of each, leading
    axis."""
    paths, others = flown.trajectories, flown.trajectories.others
    assert others is not None, "flights of a swarm"
    position = np.concatenate([paths.states.position, np.asarray(paths.last.position)[:, None]], axis=1)

    def at_goal(path: Trajectory, own: Scene) -> Bool[Array, "points"]:
        return arrival(path, own, system, jnp.bool_(False)).at_goal

    alone = per_drone(jax.tree.map(lambda leaf: leaf[None], scene))
    return SwarmFlight(
        name=name,
        time_step=system.physics.time_step,
        position=position.swapaxes(0, 1),
        gap=np.asarray(others.gap).T,
        clearance=np.asarray(flown.clearance).T,
        status=np.asarray(paths.decisions.status).T,
        at_goal=np.asarray(jax.vmap(at_goal)(paths, alone)).T,
        goal=np.asarray(scene.goal),
        obstacles=obstacles_of(scene),
        drone_radius=system.physics.drone_radius,
        sight=system.sensor.range,
        perceived=system.sensor.drones,
        noise=noise,
        filtered=filtered,
        cell=cell,
    )


def swarms_of(
    scenes: Scene, flown: Flown, system: SystemConfig, name: str, noise: float, *, filtered: bool = True
) -> list[SwarmFlight]:
    """The swarms that flew ``scenes`` (leading axis), one by one; ``flown``: a flight of each drone, in order. Those
    that left the numbers are left out."""
    count, drones = scenes.start.shape[:2]
    found = []
    for index in range(count):
        scene = jax.tree.map(lambda leaf, index=index: leaf[index], scenes)
        rows = slice(index * drones, (index + 1) * drones)
        whole = jax.tree.map(lambda leaf, rows=rows: leaf[rows], flown)
        ends = whole.trajectories.last.position  # what leaves the numbers does not return to them
        if np.isfinite(ends).all():
            found.append(swarm_of(scene, whole, system, f"{name} {index + 1}", noise, filtered=filtered))
    return found
