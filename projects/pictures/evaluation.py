"""The pictures of an evaluation: recorded flights and barrier values, handed to reporting as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from drone_cbf.api.flight_records import flights_of, obstacles_of
from drone_cbf.config import SceneName
from drone_cbf.evaluation.matrix import Cell
from drone_cbf.evaluation.replay import fly_again
from drone_cbf.evaluation.showcase import record_flights, record_slice
from drone_cbf.evaluation.worst import ReplayStates, chosen
from drone_cbf.flights import Flyer, chunk_size
from drone_cbf.reporting.figures.barriers import barrier_heatmap
from drone_cbf.reporting.figures.flights import flights_from_above, flights_in_space, paired_flights
from drone_cbf.reporting.figures.matrices import success_matrix
from drone_cbf.reporting.figures.over_time import flight_over_time
from drone_cbf.reporting.pages.viewer import ShownFlight, interactive_viewer
from drone_cbf.reporting.records import BarrierSlice, Flight
from drone_cbf.rollout import ControllerParams
from drone_cbf.safety.records import Status
from projects.running.stage_runner import Stage

SHOWN_FLIGHTS = 4
"""Flights of each scenario in the figures."""
RECORDED_FLIGHTS = 256
"""Flights recorded of each scenario, from which the pictures choose."""
WORST_FLIGHTS = 4
"""Worst flights of the evaluation in the viewer."""
TELLING, FAILED, WORST, FIRST = (
    "Most telling flight of each scenario",
    "Goal not reached, or collided",
    "Largest CBF violations of the evaluation",
    "First flights of each scenario, not selected",
)
"""Groups of the viewer."""


def draw_evaluation(
    stage: Stage,
    controller: ControllerParams,
    flyers: Mapping[bool, Flyer],
    cells: Sequence[Cell],
    worst: ReplayStates | None = None,
) -> None:
    """Uploads the figures of an evaluation: matrix, flights, barrier slice, and the interactive viewer."""
    filtered = controller.barrier is not None
    rows = [_matrix_row(cell) for cell in cells if cell.filtered is filtered]
    stage.draw("matrix.png", lambda: success_matrix(rows))
    shown: list[ShownFlight] = []
    for scenario in stage.parameters.scenarios:
        flights = _record(stage, controller, flyers, scenario, filtered)
        few = flights[:SHOWN_FLIGHTS]
        title = scenario.replace("_", " ")
        stage.draw(f"{scenario}_from_above.png", lambda few=few, title=title: flights_from_above(few, title))
        stage.draw(f"{scenario}_in_space.png", lambda few=few, title=title: flights_in_space(few, title))
        stage.draw(f"{scenario}_over_time.png", lambda few=few: flight_over_time(few[0]))
        off = _record(stage, controller, flyers, scenario, False) if filtered else None
        if off:
            _draw_pair(stage, flights, off, scenario)
        shown += select_flights(flights, off)
    if worst is not None:
        few = np.flatnonzero(~(worst.violation <= 0.0))[:WORST_FLIGHTS]  # NaN counts as worst
        shown += _worst(stage, controller, flyers, chosen(worst, few)) if len(few) else []
    names = [status.name.lower().replace("_", " ") for status in Status]
    stage.draw("viewer.html", lambda: interactive_viewer(in_order(shown), "drone_cbf: recorded flights", names))
    if filtered:
        stage.draw("barrier.png", lambda: barrier_heatmap(_slice(stage, controller)))


def select_flights(flights: Sequence[Flight], off: Sequence[Flight] | None) -> list[ShownFlight]:
    """The flights of one scenario that the viewer shows, each once; ``off``: the first of them without the filter."""
    pairs = [
        ShownFlight(flight, off[index] if off and index < len(off) else None) for index, flight in enumerate(flights)
    ]
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


def _draw_pair(stage: Stage, on: Sequence[Flight], off: Sequence[Flight], scenario: str) -> None:
    """Draws the scene in which the policy without the filter has the smallest clearance."""
    index = int(np.argmin([np.min(flight.clearance) for flight in off]))
    title = f"{scenario.replace('_', ' ')}: the same policy with and without the filter"
    stage.draw(f"{scenario}_filter_on_off.png", lambda: paired_flights(on[index], off[index], title))


def _batch(stage: Stage, filtered: bool, twins: bool) -> int:
    """Flights that a cell of the matrix has, with or without the filter; ``twins``: it was flown both ways."""
    asked = stage.parameters
    return min(asked.rollouts, asked.unfiltered_rollouts) if twins and not filtered else asked.rollouts


def _record(
    stage: Stage, controller: ControllerParams, flyers: Mapping[bool, Flyer], scenario: SceneName, filtered: bool
) -> list[Flight]:
    batch = _batch(stage, filtered, len(flyers) > 1)
    count = min(RECORDED_FLIGHTS, batch)
    scenes, flown = record_flights(
        stage.system, stage.parameters, controller, flyers[filtered], scenario, flights=count, batch=batch
    )
    return flights_of(
        scenes, flown, stage.system, scenario.replace("_", " "), max(stage.parameters.noise), filtered=filtered
    )


def _worst(
    stage: Stage, controller: ControllerParams, flyers: Mapping[bool, Flyer], states: ReplayStates
) -> list[ShownFlight]:
    """The worst flights of the matrix, flown again as they were, and once more without the filter."""
    batch = min(_batch(stage, False, True), chunk_size())
    alone = replace(states, rows=np.arange(len(states)) % batch, batch=batch)
    seconds = states.steps * stage.system.physics.time_step
    places = [cell.replace("_", " ").replace("/", ", ") for cell in states.cells]
    names = [
        f"{violation:.2f} m/s at {time:.2f} s: {place} goals"
        for violation, time, place in zip(states.violation, seconds, places, strict=True)
    ]
    on, off = (
        flights_of(
            some.scenes, fly_again(flyers[filtered], controller, some), stage.system, names, some.noise, filtered
        )
        for filtered, some in ((True, states), (False, alone))
    )
    return [ShownFlight(*pair, WORST) for pair in zip(on, off, strict=True)]


def _slice(stage: Stage, controller: ControllerParams) -> BarrierSlice:
    scenarios = stage.parameters.scenarios
    scenario = "random_cloud" if "random_cloud" in scenarios else scenarios[0]
    fields, scene = record_slice(stage.system, stage.parameters, controller, scenario)
    return BarrierSlice(**fields, obstacles=obstacles_of(scene), drone_radius=stage.system.physics.drone_radius)


def _matrix_row(cell: Cell) -> dict[str, object]:
    return {"scene": cell.scenario, "goals": cell.goals, "noise": cell.noise, **cell.figures}
