"""``evaluate -P replay=...``: the worst flights of an earlier evaluation once more, with the parent run's policy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import numpy as np

from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.replay import flown_states, fly_again, packed, same_bits, unpacked
from drone_cbf.evaluation.showcase import RecordedFlights
from drone_cbf.evaluation.worst import ReplayStates, WorstFlights
from drone_cbf.flights import Flown, make_flyer
from drone_cbf.reporting.figures.replays import MOST_REPLAYS, Replay, replays_over_time
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.rollout import ControllerParams, make_filtered_controller
from drone_cbf.safety.records import Status
from drone_cbf.tracking.queries.records import artifact
from drone_cbf.tracking.runs.lineage import get_run
from projects.pictures.evaluation import flights_of
from projects.running.stage_runner import Outcome, Stage
from projects.running.terminal import terminal_table

FILE = "replay/worst.npz"
"""Artifact of an evaluation: its worst flights."""
COLUMNS = ("cell", "reason", "step", "violation", "violation_recorded", "clearance", "clearance_recorded", "status")
COLUMNS += ("status_recorded", "same_bits")
"""Of the table of replayed flights, what a description shows; the artifact holds every column."""


def store_worst(stage: Stage, worst: WorstFlights) -> None:
    """Uploads the worst flights, where there were any with a filter."""
    states = worst.states()
    if states is None:
        return
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        file = Path(folder) / Path(FILE).name
        file.write_bytes(packed(states))
        stage.run.log_file(file, str(Path(FILE).parent))


def load_worst(stage: Stage) -> ReplayStates:
    """The flights that ``replay`` names: a run, an artifact ``runs:/<run id>/<path>``, or a file.

    Raises:
        ConfigError: there are none, or they cannot be read.
        LineageError: no such run.
    """
    source = stage.parameters.replay
    if source.endswith(".npz") and not source.startswith("runs:/"):
        try:
            content: bytes | None = Path(source).read_bytes()
        except OSError as error:
            raise ConfigError(f"replay = {source} cannot be read ({error.strerror}); name an evaluate run") from error
    else:
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        content = artifact(get_run(run_id, "replay").info.run_id, path or FILE)
    if content is None:
        raise ConfigError(f"replay = {source} has no {FILE}: name an evaluate run whose policy flew behind the filter")
    return unpacked(content, stage.system, source)


def replay(stage: Stage, controller: ControllerParams) -> Outcome:
    """Flies the recorded flights again and says of each how it went beside how it had gone."""
    stage.run.tag(stage="replay", replayed=stage.parameters.replay)  # no evaluation: it must not speak for the policy
    if controller.barrier is None:
        raise ConfigError("replay needs the filter: name a pretrain_cbf or safety run as parent_run")
    states = load_worst(stage)
    stage.recorder.begin("replay", len(states))
    fly = make_flyer(stage.system, make_filtered_controller(stage.system), states.horizon)
    flown = fly_again(fly, controller, states)
    again = flown_states(states, flown)
    figures = {
        "states": len(states),
        "same_bits": int(same_bits(states, again).sum()),
        "max_violation": float(np.max(again.violation)),
        "max_violation_recorded": float(np.max(states.violation)),
        "smallest_clearance": float(np.min(again.clearance)),
        "smallest_clearance_recorded": float(np.min(states.clearance)),
        "solver_failures": int(again.failures.sum()),
        "solver_failures_recorded": int(states.failures.sum()),
    }
    stage.run.log_metrics({f"replay/{name}": value for name, value in figures.items()})
    rows = replay_rows(states, again)
    stage.run.log_table({name: [row[name] for row in rows] for name in rows[0]}, "tables/replay.json")
    shown = min(MOST_REPLAYS, len(states))
    title = f"The {shown} worst flights again"
    stage.draw("replay.png", lambda: replays_over_time(_replays(stage, states, flown, shown), title))
    table = markdown_table([{"figure": name, "value": value} for name, value in figures.items()])
    summary = f"### Flights of {stage.parameters.replay} again\n\n{table}"
    flights = [{name: row[name] for name in COLUMNS} for row in rows]
    page = f"{summary}\n\n### Each flight\n\n{markdown_table(flights)}"
    return Outcome(page, shown=f"The worst flights again, beside as recorded\n\n{terminal_table(flights)}")


def replay_rows(states: ReplayStates, again: ReplayStates) -> list[dict[str, object]]:
    """One row per flight: how it went, beside how it had gone."""
    same = same_bits(states, again)
    return [
        {
            "cell": str(states.cells[index]),
            "reason": str(states.reasons[index]),
            "noise": float(states.noise[index]),
            "step": int(states.steps[index]),
            "violation": float(again.violation[index]),
            "violation_recorded": float(states.violation[index]),
            "clearance": float(again.clearance[index]),
            "clearance_recorded": float(states.clearance[index]),
            "status": Status(int(again.status[index])).name.lower(),
            "status_recorded": Status(int(states.status[index])).name.lower(),
            "solver_failures": int(again.failures[index]),
            "solver_failures_recorded": int(states.failures[index]),
            "same_bits": bool(same[index]),
        }
        for index in range(len(states))
    ]


def _replays(stage: Stage, states: ReplayStates, flown: Flown, count: int) -> list[Replay]:
    few: Flown = jax.tree.map(lambda x: x[:count], flown)
    recorded = RecordedFlights(
        scenario="flight",
        noise=float(states.noise[0]),
        filtered=True,
        scenes=jax.tree.map(lambda x: x[:count], states.scenes),
        trajectories=few.trajectories,
        metrics=few.metrics,
        clearance=few.clearance,
    )
    return [
        Replay(
            flight, np.asarray(few.metrics.violation)[index], int(states.steps[index]), float(states.violation[index])
        )
        for index, flight in enumerate(flights_of(recorded, stage.system))
    ]
