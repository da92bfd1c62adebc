"""Simulated flights of whole swarms as the plain numpy records that figures are drawn from."""

import jax
import numpy as np

from drone_cbf.api.flight_records import obstacles_of
from drone_cbf.config import SystemConfig
from drone_cbf.flights import Flown
from drone_cbf.objectives.metrics import GOAL_SPEED
from drone_cbf.reporting.swarms import SwarmFlight
from drone_cbf.rollout import Encounters
from drone_cbf.scenes.scene import Scene


def swarm_of(
    scene: Scene, flown: Flown, system: SystemConfig, name: str, noise: float, *, filtered: bool = True, cell: str = ""
) -> SwarmFlight:
    """The swarm that flew ``scene``, its own start and goal for each drone; ``flown``: a flight of each, leading
    axis."""
    states, last, decisions, others = jax.tree.map(
        np.asarray, (flown.trajectories.states, flown.trajectories.last, flown.trajectories.decisions, met(flown))
    )
    position = np.concatenate([states.position, last.position[:, None]], axis=1)
    velocity = np.concatenate([states.velocity, last.velocity[:, None]], axis=1)
    goal = np.asarray(scene.goal)
    near = np.linalg.norm(position - goal[:, None], axis=-1) < system.objective.goal_radius
    return SwarmFlight(
        name=name,
        time_step=system.physics.time_step,
        position=position.swapaxes(0, 1),
        gap=others.gap.T,
        clearance=np.asarray(flown.clearance).T,
        status=decisions.status.T,
        at_goal=(near & (np.linalg.norm(velocity, axis=-1) < GOAL_SPEED)).T,
        goal=goal,
        obstacles=obstacles_of(scene),
        drone_radius=system.physics.drone_radius,
        sight=system.sensor.range,
        perceived=system.sensor.drones,
        noise=noise,
        filtered=filtered,
        cell=cell,
    )


def met(flown: Flown) -> Encounters:
    """What the drones of a swarm met of each other."""
    assert flown.trajectories.others is not None, "flights of a swarm"
    return flown.trajectories.others


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
