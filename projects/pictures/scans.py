"""Pictures of what a range sensor shows: flights with their readings, and slices of the barrier on scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
from matplotlib.figure import Figure

from drone_cbf.api.flight_records import MOST_SEEN, flights_of, has_points, obstacles_of
from drone_cbf.barrier.neural import BarrierParams
from drone_cbf.config import SceneName, SystemConfig
from drone_cbf.evaluation.scan_slice import record_scan_slice
from drone_cbf.flights import Flown
from drone_cbf.reporting.figures.barrier_slices import barrier_slices
from drone_cbf.reporting.pages.viewer import ShownFlight
from drone_cbf.reporting.records import Flight
from drone_cbf.reporting.swarms import SwarmFlight
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import Scene


@dataclass(frozen=True)
class Recorded:
    """Flights of one scenario, with what their readings can be computed from again."""

    flights: list[Flight]
    scenes: Scene
    flown: Flown
    keys: jax.Array
    system: SystemConfig
    swarms: list[SwarmFlight] = field(default_factory=list)  # The same flights, those of a scene together

    def seeing(self, row: int) -> Flight:
        """A flight with its readings, if the sensor gives points."""
        flight = self.flights[row]
        if not has_points(self.system):
            return flight
        one = jax.tree.map(lambda leaf: leaf[row : row + 1], (self.scenes, self.flown))
        how = flight.noise, flight.filtered, self.keys[row : row + 1]
        return flights_of(*one, self.system, [flight.name], *how)[0]


def with_readings(shown: Sequence[ShownFlight], recorded: Sequence[Recorded]) -> list[ShownFlight]:
    """The same entries, the first :data:`MOST_SEEN` with their readings."""
    known = {id(flight): (record, row) for record in recorded for row, flight in enumerate(record.flights)}
    few = [
        replace(entry, flight=known[id(entry.flight)][0].seeing(known[id(entry.flight)][1]))
        if id(entry.flight) in known
        else entry
        for entry in shown[:MOST_SEEN]
    ]
    return [*few, *shown[MOST_SEEN:]]


def draw_scan_slice(system: SystemConfig, barrier: BarrierParams, scenes: Sequence[SceneName], seed: int) -> Figure:
    """The barriers on scans of a random scene, with windows if the run knows such."""
    family: SceneName = "windows" if "windows" in scenes else scenes[0]
    key = jax.random.key(seed)
    scene = jax.jit(make_scene_sampler(family, "random", system.scene))(key)
    found = record_scan_slice(system, barrier, scene, key)
    return barrier_slices(**vars(found), obstacles=obstacles_of(scene), drone_radius=system.physics.drone_radius)
