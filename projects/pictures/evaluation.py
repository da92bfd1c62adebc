"""The pictures of an evaluation: recorded flights and barrier values, handed to reporting as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

import jax
import numpy as np
from matplotlib.figure import Figure

from drone_cbf.api.flight_records import flights_of, has_points, obstacles_of
from drone_cbf.api.swarm_records import swarms_of
from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.matrix import Cell
from drone_cbf.evaluation.replay import fly_again
from drone_cbf.evaluation.showcase import record_flights, record_slice
from drone_cbf.evaluation.worst import ReplayStates, chosen
from drone_cbf.flights import Flyer, chunk_size
from drone_cbf.reporting.figures.barriers import barrier_heatmap
from drone_cbf.reporting.figures.flights import flights_from_above, flights_in_space, paired_flights
from drone_cbf.reporting.figures.matrices import success_matrix
from drone_cbf.reporting.figures.over_time import flight_over_time
from drone_cbf.reporting.figures.scans import scan_figure
from drone_cbf.reporting.figures.speeds import rates_by_number, rates_by_speed
from drone_cbf.reporting.pages.swarm_viewer import swarm_viewer
from drone_cbf.reporting.pages.viewer import ShownFlight, interactive_viewer
from drone_cbf.reporting.records import BarrierSlice, Flight
from drone_cbf.reporting.swarms import SwarmFlight
from drone_cbf.safety.records import Status
from drone_cbf.scenes.families import SWARMS
from drone_cbf.scenes.scene import per_drone
from drone_cbf.serving.controller import STATUS_NAMES
from projects.pictures.recordings import upload_recordings
from projects.pictures.scans import Recorded, draw_scan_slice, with_readings
from projects.pictures.swarms import SHOWN_SWARMS, WORST_SWARMS, draw_swarms, worst_swarms
from projects.running.stage_runner import Stage

Flyers = Mapping[bool, Flyer]  # filtered -> compiled function
SHOWN_FLIGHTS = 4  # of each scenario in the figures
RECORDED_FLIGHTS = 256  # of each scenario, from which the pictures choose
WORST_FLIGHTS = 4  # of the evaluation in the viewer
TELLING, FAILED, WORST, FIRST = (
    "Most telling flight of each scenario",
    "Goal not reached, or collided",
    "Largest CBF violations of the evaluation",
    "First flights of each scenario, not selected",
)
"""Groups of the viewer."""


def draw_evaluation(
    stage: Stage, controller: ControllerParams, fly: Flyers, cells: list[Cell], worst: ReplayStates | None
) -> None:
    """Uploads the figures of an evaluation: matrix, flights, barrier slice, and the interactive viewer."""
    filtered = controller.barrier is not None
    if stage.parameters.speeds:
        stage.draw("by_speed.png", lambda: rates_by_speed([cell.row for cell in cells]))
    if many := [cell.row for cell in cells if cell.drones is not None]:
        stage.draw("by_drones.png", lambda: rates_by_number(many))
    if single := [cell.row for cell in cells if cell.filtered is filtered and cell.speed is cell.drones is None]:
        stage.draw("matrix.png", lambda: success_matrix(single))
    shown: list[ShownFlight] = []
    recorded: list[Recorded] = []
    swarms: list[SwarmFlight] = []
    for scenario in stage.parameters.scenarios:
        recorded.append(_record(stage, controller, fly, scenario, filtered))
        off = _record(stage, controller, fly, scenario, False) if filtered else None
        if recorded[-1].swarms:
            draw_swarms(stage, scenario, recorded[-1].swarms, off.swarms if off else [])
            swarms += recorded[-1].swarms[:SHOWN_SWARMS]
        else:
            _draw_flights(stage, scenario, recorded[-1], off)
        shown += select_flights(recorded[-1].flights, off.flights if off else None)
    if worst is not None:
        single = np.flatnonzero(~(worst.violation <= 0.0) & (worst.drones == 0))[:WORST_FLIGHTS]  # NaN counts as worst
        many = np.flatnonzero(worst.drones > 0)[:WORST_SWARMS]
        shown += _worst(stage, controller, fly, chosen(worst, single)) if len(single) else []
        swarms += worst_swarms(stage, controller, fly[True], chosen(worst, many)) if len(many) else []
    names = [status.name.lower().replace("_", " ") for status in Status]
    entries = with_readings(in_order(shown), recorded)
    stage.draw("viewer.html", lambda: interactive_viewer(entries, "drone_cbf: recorded flights", names))
    if swarms:
        stage.draw("swarms.html", lambda: swarm_viewer(swarms, "drone_cbf: recorded swarms", STATUS_NAMES))
    upload_recordings(stage.run, entries, stage.parameters.recordings)
    if filtered:
        stage.draw("barrier.png", lambda: _draw_slice(stage, controller))


def _draw_flights(stage: Stage, scenario: str, recorded: Recorded, off: Recorded | None) -> None:
    """The figures of a scenario's first flights, each drone by itself."""
    few, title = recorded.flights[:SHOWN_FLIGHTS], scenario.replace("_", " ")
    stage.draw(f"{scenario}_from_above.png", lambda: flights_from_above(few, title))
    stage.draw(f"{scenario}_in_space.png", lambda: flights_in_space(few, title))
    stage.draw(f"{scenario}_over_time.png", lambda: flight_over_time(few[0]))
    if has_points(stage.system):
        nearest = int(np.argmin(few[0].clearance))
        stage.draw(f"{scenario}_scan.png", lambda: scan_figure(recorded.seeing(0), nearest))
    if off:  # the scene in which the policy without the filter has the smallest clearance
        index = int(np.argmin([np.min(flight.clearance) for flight in off.flights]))
        pair = recorded.flights[index], off.flights[index]
        both = f"{title}: the same policy with and without the filter"
        stage.draw(f"{scenario}_filter_on_off.png", lambda: paired_flights(*pair, both))


def select_flights(flights: Sequence[Flight], off: Sequence[Flight] | None) -> list[ShownFlight]:
    """The flights of one scenario that the viewer shows, each once; ``off``: the first of them without the filter."""
    pairs = [ShownFlight(*pair) for pair in zip_longest(flights, off or ())]
    few = {
        TELLING: sorted(pairs[: len(off or pairs)], key=_telling)[-1:],
        FAILED: [pair for pair in pairs if pair.flight.collided or not pair.flight.reached][:1],
        FIRST: pairs[:SHOWN_FLIGHTS],
    }
    groups = {id(pair): (pair, group) for group, some in reversed(few.items()) for pair in some}
    return [replace(pair, group=group) for pair, group in groups.values()]


def in_order(shown: Sequence[ShownFlight]) -> list[ShownFlight]:
    """Sorted by group; the most telling flight comes first, with which the viewer opens."""
    order = (TELLING, WORST, FAILED, FIRST)
    first = sorted((entry for entry in shown if entry.group == TELLING), key=_telling, reverse=True)
    return first + sorted((entry for entry in shown if entry.group != TELLING), key=lambda e: order.index(e.group))


def _telling(pair: ShownFlight) -> tuple[bool, int, float]:
    """Larger is more telling: a collision that the filter prevents, then interventions, then a small clearance."""
    on, off = pair.flight, pair.without_filter
    return off is not None and off.collided and not on.collided, int(on.acted.sum()), -on.least_clearance


def _batch(stage: Stage, filtered: bool, twins: bool) -> int:
    """Flights that a cell of the matrix has, with or without the filter; ``twins``: it was flown both ways."""
    asked = stage.parameters
    return min(asked.rollouts, asked.unfiltered_rollouts) if twins and not filtered else asked.rollouts


def _record(stage: Stage, controller: ControllerParams, fly: Flyers, scenario: str, filtered: bool) -> Recorded:
    system, asked, batch = stage.system, stage.parameters, _batch(stage, filtered, len(fly) > 1)
    some = {"flights": min(RECORDED_FLIGHTS, batch), "batch": batch}
    scenes, flown, keys = record_flights(system, asked, controller, fly[filtered], scenario, **some)
    name, noise = scenario.replace("_", " "), max(asked.noise)
    flights = flights_of(per_drone(scenes), flown, system, name, noise, filtered)
    swarms = swarms_of(scenes, flown, system, name, noise, filtered=filtered) if scenario in SWARMS else []
    return Recorded(flights, per_drone(scenes), flown, keys, system, swarms)


def _worst(stage: Stage, controller: ControllerParams, fly: Flyers, states: ReplayStates) -> list[ShownFlight]:
    """The worst flights of the matrix, flown again as they were, and once more without the filter."""
    batch = min(_batch(stage, False, True), chunk_size())
    alone = replace(states, rows=np.arange(len(states)) % batch, batches=np.full(len(states), batch))
    seconds = states.steps * stage.system.physics.time_step
    names = [
        f"{violation:.2f} m/s at {time:.2f} s: {cell.replace('_', ' ').replace('/', ', ')} goals"
        for violation, time, cell in zip(states.violation, seconds, states.cells, strict=True)
    ]
    keys, told = jax.random.wrap_key_data(states.keys), (stage.system, names, states.noise)
    on, off = (
        flights_of(some.own_scenes(), fly_again(fly[filtered], controller, some).flown, *told, filtered, keys)
        for filtered, some in ((True, states), (False, alone))
    )
    return [ShownFlight(*pair, WORST) for pair in zip(on, off, strict=True)]


def _draw_slice(stage: Stage, controller: ControllerParams) -> Figure:
    scenarios = stage.parameters.scenarios
    if has_points(stage.system):
        return draw_scan_slice(stage.system, controller.barrier, scenarios, stage.parameters.seed)
    scenario = "random_cloud" if "random_cloud" in scenarios else scenarios[0]
    fields, scene = record_slice(stage.system, stage.parameters, controller, scenario)
    radius = stage.system.physics.drone_radius
    return barrier_heatmap(BarrierSlice(**fields, obstacles=obstacles_of(scene), drone_radius=radius))
