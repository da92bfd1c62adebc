"""The pictures of swarms: all drones of a scene together."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from drone_cbf.api.swarm_records import swarm_of
from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.replay import scenes_again
from drone_cbf.evaluation.worst import ReplayStates, whole_scene
from drone_cbf.flights import Flyer
from drone_cbf.reporting.figures.swarms import swarm_figure
from drone_cbf.reporting.swarms import SwarmFlight
from projects.running.stage_runner import Stage

SHOWN_SWARMS = 2  # of each scenario in the viewer
WORST_SWARMS = 2  # of the evaluation in the viewer
IN_A_FIGURE = 64  # swarms, whose lines can still be told apart


def draw_swarms(stage: Stage, scenario: str, swarms: Sequence[SwarmFlight], off: Sequence[SwarmFlight]) -> None:
    """The figure of a scenario: least gap, arrivals and density; ``off``: the first scenes without the filter."""
    title = scenario.replace("_", " ")
    few = swarms[:IN_A_FIGURE], off[:IN_A_FIGURE]
    stage.draw(f"{scenario}_swarm.png", lambda: swarm_figure(few[0], title, few[1]))


def worst_swarms(stage: Stage, controller: ControllerParams, fly: Flyer, states: ReplayStates) -> list[SwarmFlight]:
    """The swarms with the worst drones of the matrix, flown again as they were."""
    found: dict[int, SwarmFlight] = {}
    for index, flown in scenes_again(fly, controller, states):
        if np.isfinite(flown.trajectories.last.position).all():
            scene = jax.tree.map(np.asarray, whole_scene(states, index))
            worst = f"violation {states.violation[index]:.2f} m/s, clearance {states.clearance[index]:.3f} m"
            name = f"worst of drone {states.drone[index] + 1}: {worst}"
            cell = str(states.cells[index]).replace("_", " ").replace("/", ", ")
            found[index] = swarm_of(scene, flown, stage.system, name, float(states.noise[index]), cell=cell)
    return [found[index] for index in sorted(found)]
