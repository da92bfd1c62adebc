"""The pictures of an evaluation: recorded flights and barrier values, handed to reporting as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drone_cbf.evaluation.matrix import Cell, Flyer
from drone_cbf.evaluation.showcase import record_flights, record_slice
from drone_cbf.flight_records import flights_of, obstacles_of
from drone_cbf.reporting.figures.barrier_maps import barrier_heatmap
from drone_cbf.reporting.figures.flights import flight_over_time, flights_from_above, flights_in_space, paired_flights
from drone_cbf.reporting.figures.matrices import success_matrix
from drone_cbf.reporting.pages.viewer import interactive_viewer
from drone_cbf.reporting.records import BarrierSlice, Flight
from drone_cbf.rollout import ControllerParams
from projects.running.stage_runner import Stage

SHOWN_FLIGHTS = 4
"""Flights of each scenario in the pictures."""
RECORDED_FLIGHTS = 256
"""Flights recorded of each scenario: the one that comes closest without the filter shows what the filter is for."""


def draw_evaluation(
    stage: Stage, controller: ControllerParams, flyers: Mapping[bool, Flyer], cells: Sequence[Cell]
) -> None:
    """Uploads the figures of an evaluation: matrix, flights, barrier slice, and the interactive viewer."""
    filtered = controller.barrier is not None
    rows = [_matrix_row(cell) for cell in cells if cell.filtered is filtered]
    stage.draw("matrix.png", lambda: success_matrix(rows))
    shown: list[Flight] = []
    for scenario in stage.parameters.scenarios:
        flights = _record(stage, controller, flyers, scenario, filtered)
        few = flights[:SHOWN_FLIGHTS]
        title = scenario.replace("_", " ")
        stage.draw(f"{scenario}_from_above.png", lambda few=few, title=title: flights_from_above(few, title))
        stage.draw(f"{scenario}_in_space.png", lambda few=few, title=title: flights_in_space(few, title))
        stage.draw(f"{scenario}_over_time.png", lambda few=few: flight_over_time(few[0]))
        if filtered:
            _draw_pair(stage, flights, _record(stage, controller, flyers, scenario, False), scenario)
        shown += few
    stage.draw("viewer.html", lambda: interactive_viewer(shown, "drone_cbf: recorded flights"))
    if filtered:
        stage.draw("barrier.png", lambda: barrier_heatmap(_slice(stage, controller)))


def _draw_pair(stage: Stage, on: Sequence[Flight], off: Sequence[Flight], scenario: str) -> None:
    """The scene in which the same policy comes closest to a surface, or into it, without the filter."""
    index = int(np.argmin([np.min(flight.clearance) for flight in off]))
    title = f"{scenario.replace('_', ' ')}: the same policy with and without the filter"
    stage.draw(f"{scenario}_filter_on_off.png", lambda: paired_flights(on[index], off[index], title))


def _record(
    stage: Stage, controller: ControllerParams, flyers: Mapping[bool, Flyer], scenario: Any, filtered: bool
) -> list[Flight]:
    count = min(RECORDED_FLIGHTS, stage.parameters.rollouts)
    noise = max(stage.parameters.noise)
    recorded = record_flights(
        stage.system,
        stage.parameters,
        controller,
        flyers[filtered],
        scenario,
        noise=noise,
        filtered=filtered,
        flights=count,
    )
    return flights_of(recorded, stage.system)


def _slice(stage: Stage, controller: ControllerParams) -> BarrierSlice:
    scenarios = stage.parameters.scenarios
    scenario = "random_cloud" if "random_cloud" in scenarios else scenarios[0]
    recorded = record_slice(stage.system, stage.parameters, controller, scenario)
    return BarrierSlice(
        x=recorded.x,
        y=recorded.y,
        analytic=recorded.analytic,
        neural=recorded.neural,
        velocity=recorded.velocity,
        height=recorded.height,
        obstacles=obstacles_of(recorded.scene),
        drone_radius=stage.system.physics.drone_radius,
    )


def _matrix_row(cell: Cell) -> dict[str, object]:
    return {"scene": cell.scenario, "goals": cell.goals, "noise": cell.noise, **cell.figures}
