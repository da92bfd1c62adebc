"""The figures of an evaluation by cell of its matrix: which of them are metrics, and how to read all of them.

A figure is called ``<prefix>/<scene>/noise_<level>/<goals>/<name>``, with the prefix ``eval`` or, without the filter,
``eval_unfiltered``; at a cruise speed of its own ``<goals>/speed_<v>``, with a number of drones ``/drones_<n>``. Only
those that people plot are logged as metrics; the table ``tables/cells.json`` holds every one. Older evaluations
logged all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mlflow.entities import Run

from drone_cbf.tracking.queries.records import table

CELLS_FILE = "tables/cells.json"
PREFIX = {True: "eval", False: "eval_unfiltered"}  # First part of a metric's name by whether the filter was on
LOGGED = ("success_rate", "collisions", "max_violation")
"""Figures of a single cell that are metrics, with the filter on; of a policy that has none, without it."""
_PLACE = ("scene", "noise", "goals", "speed", "drones", "filtered")


def is_logged(name: str) -> bool:
    """Whether every evaluation with the filter logs this figure, so that ``search_runs`` can filter by it."""
    parts = name.split("/")
    return len(parts) == 2 or (parts[0] == PREFIX[True] and parts[-1] in LOGGED)


def evaluation_figures(run: Run) -> dict[str, float]:
    """All figures of an evaluation by metric name: its metrics, and what only its table holds."""
    return cell_figures(run.info.run_id) | run.data.metrics


def cell_figures(run_id: str) -> dict[str, float]:
    """What the run's table of cells holds, by metric name; empty where it has none."""
    found: dict[str, float] = {}
    for row in table(run_id, CELLS_FILE):
        place = f"{PREFIX[row['filtered']]}/{row['scene']}/noise_{row['noise']:g}/{row['goals']}"
        place += f"/speed_{row['speed']:g}" if row.get("speed") is not None else ""
        place += f"/drones_{row['drones']:.0f}" if row.get("drones") is not None else ""
        figures = {name: value for name, value in row.items() if name not in _PLACE}
        found |= {f"{place}/{name}": math.nan if value is None else float(value) for name, value in figures.items()}
    return found  # JSON holds null for NaN


def logged_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Of a cell's figures those that are metrics."""
    return {name: figures[name] for name in LOGGED}
