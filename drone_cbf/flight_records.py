"""Simulated flights as the plain numpy records that figures are drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.evaluation.showcase import RecordedFlights
from drone_cbf.flights import Flown
from drone_cbf.physics.scenes import Scene
from drone_cbf.reporting.figures.flights import Figure, flights_from_above
from drone_cbf.reporting.records import Flight, Obstacles


def draw_flights(
    system: SystemConfig, scenes: Sequence[Scene], flown: Flown, title: str = "", *, filtered: bool = True
) -> Figure:
    """The flights of :func:`drone_cbf.fly` seen from above, one panel per scene, coloured by speed.

    Save it with ``figure.savefig("flights.png")``. Raises ValueError for more than 12 different scenes.
    """
    recorded = RecordedFlights(
        scenario="scene",
        noise=0.0,
        filtered=filtered,
        scenes=jax.tree.map(lambda *leaves: np.stack(leaves), *scenes),
        trajectories=flown.trajectories,
        metrics=flown.metrics,
        clearance=flown.clearance,
    )
    return flights_from_above(flights_of(recorded, system), title)


def flights_of(recorded: RecordedFlights, system: SystemConfig) -> list[Flight]:
    """The recorded flights as records for drawing."""
    host = jax.tree.map(np.asarray, (recorded.scenes, recorded.trajectories, recorded.metrics))
    found = []
    for index in range(len(recorded.clearance)):
        scene, flown, metrics = jax.tree.map(lambda x, index=index: x[index], host)
        decisions = flown.decisions
        found.append(
            Flight(
                name=f"{recorded.scenario.replace('_', ' ')} {index + 1}",
                time_step=system.physics.time_step,
                position=np.concatenate([flown.states.position, flown.last.position[None]]),
                velocity=np.concatenate([flown.states.velocity, flown.last.velocity[None]]),
                command=decisions.command,
                nominal=decisions.nominal,
                barrier=decisions.barrier,
                analytic_barrier=metrics.true_barrier,
                clearance=np.asarray(recorded.clearance)[index],
                slack=decisions.slack,
                status=decisions.status,
                goal=scene.goal,
                obstacles=obstacles_of(scene),
                drone_radius=system.physics.drone_radius,
                reached=bool(metrics.success),
                collided=bool(metrics.collision),
                noise=recorded.noise,
                filtered=recorded.filtered,
            )
        )
    return found


def obstacles_of(scene: Scene) -> Obstacles:
    """The obstacles of one scene at time zero."""
    shapes = scene.obstacles
    fields = ("centre", "radius", "half_height", "active")
    return Obstacles(**{name: np.asarray(getattr(shapes, name)) for name in fields})
