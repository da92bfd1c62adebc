"""``evaluate -P replay=...``: flies the worst flights of an earlier evaluation again, with the parent run's policy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import numpy as np

from drone_cbf.api.flight_records import flights_of
from drone_cbf.controller import ControllerParams
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.replay import flown_states, fly_again, same_bits
from drone_cbf.evaluation.replay_files import LARGEST, packed, unpacked
from drone_cbf.evaluation.worst import ReplayStates, WorstFlights
from drone_cbf.flights import Flown, policy_flyer
from drone_cbf.reporting.figures.over_time import MOST_REPLAYS, Replay, replays_over_time
from drone_cbf.reporting.tables import markdown_table, terminal_table
from drone_cbf.safety.records import Status
from drone_cbf.tracking.queries.records import artifact
from drone_cbf.tracking.runs.lineage import get_run
from projects.running.stage_runner import Outcome, Stage

FILE = "replay/worst.npz"  # artifact of an evaluation: its worst flights
COLUMNS = "cell reason step violation violation_recorded clearance clearance_recorded status status_recorded same_bits"
"""Columns of the table in the description; the artifact holds all."""


def store_worst(stage: Stage, worst: WorstFlights) -> None:
    """Uploads the worst filtered flights, if there are any."""
    if (states := worst.states()) is not None:
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
        content: bytes | None = _file(source)
    else:
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        content = artifact(get_run(run_id, "replay").info.run_id, path or FILE)
    if content is None:
        raise ConfigError(f"replay = {source} has no {FILE}: name an evaluate run whose policy flew behind the filter")
    return unpacked(content, source)


def _file(source: str) -> bytes:
    """Content of a file on this machine, of no more than flights take."""
    place = Path(source)
    try:
        if place.exists() and not place.is_file():
            raise ConfigError(f"replay = {source} is no plain file; name an evaluate run")
        with place.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"replay = {source} cannot be read ({error.strerror}); name an evaluate run") from error


def replay(stage: Stage, controller: ControllerParams) -> Outcome:
    """Flies the recorded flights again; compares each with its recording."""
    # Another stage: a replay does not count as an evaluation of the policy.
    stage.run.tag(stage="replay", replayed=stage.parameters.replay)
    if controller.barrier is None:
        raise ConfigError("replay needs the filter: name a pretrain_cbf or safety run as parent_run")
    states = load_worst(stage)
    stage.recorder.begin("replay", len(states))
    fly = policy_flyer(stage.system, True, states.horizon)
    repeated = fly_again(fly, controller, states)
    flown, again = repeated.flown, flown_states(states, repeated)
    same = same_bits(states, again)
    figures = {"states": len(states), "same_bits": int(same.sum()), **_totals(again), **_totals(states, "_recorded")}
    stage.run.log_metrics({f"replay/{name}": value for name, value in figures.items()})
    names = {"cell": states.cells, "reason": states.reasons, "noise": states.noise, "step": states.steps}
    names |= {} if states.widest is None else {"drones": states.drones, "drone": states.drone}
    columns = {name: values.tolist() for name, values in names.items()}
    columns |= {**_columns(again), **_columns(states, "_recorded"), "same_bits": same.tolist()}
    stage.run.log_table(columns, "tables/replay.json")
    shown = min(MOST_REPLAYS, len(states))
    title = f"The {shown} worst flights, replayed"
    stage.draw("replay.png", lambda: replays_over_time(_replays(stage, states, flown, shown), title))
    table = markdown_table([{"figure": name, "value": value} for name, value in figures.items()])
    summary = f"### Flights of {stage.parameters.replay}, replayed\n\n{table}"
    rows = [{name: columns[name][index] for name in COLUMNS.split()} for index in range(len(states))]
    page = f"{summary}\n\n### Each flight\n\n{markdown_table(rows)}"
    return Outcome(page, shown=f"The worst flights, replayed beside as recorded\n\n{terminal_table(rows)}")


def _totals(states: ReplayStates, suffix: str = "") -> dict[str, float]:
    return {
        f"max_violation{suffix}": float(np.max(states.violation)),
        f"smallest_clearance{suffix}": float(np.min(states.clearance)),
        f"solver_failures{suffix}": int(states.failures.sum()),
    }


def _columns(states: ReplayStates, suffix: str = "") -> dict[str, list[object]]:
    """How each flight went."""
    return {
        f"violation{suffix}": states.violation.tolist(),
        f"clearance{suffix}": states.clearance.tolist(),
        f"status{suffix}": [Status(code).name.lower() for code in states.status.tolist()],
        f"solver_failures{suffix}": states.failures.tolist(),
    }


def _replays(stage: Stage, states: ReplayStates, flown: Flown, count: int) -> list[Replay]:
    scenes, few = jax.tree.map(lambda x: x[:count], (states.own_scenes(), flown))
    flights = flights_of(scenes, few, stage.system, "flight", states.noise[:count])
    violation = np.asarray(few.metrics.violation)
    return [
        Replay(flight, violation[index], int(states.steps[index]), float(states.violation[index]))
        for index, flight in enumerate(flights)
    ]
