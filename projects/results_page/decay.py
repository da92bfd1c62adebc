"""Temporal gradient decay by horizon on a results page: trained from scratch without a filter, and jointly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import interval
from projects.inputs.curriculum_files import ABLATIONS, available, load_curriculum
from projects.results_page.figures import BARRIER_ERROR, FLIGHTS, NOT_MEASURED

DECAY = f"{ABLATIONS}decay_"
"""Prefix of the ablations of temporal gradient decay, which have a section of their own."""
JOINT_FIGURES = ("success", "time to goal [s]", "largest violation, mean of cells [m/s]", BARRIER_ERROR)
"""What is shown of policies with the filter, where nearly all flights succeed."""

Row = dict[str, object]


def decay_section(policies: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Policies of the efficiency stage flown without a filter, then those of the safety stage with it."""
    shipped = {name: load_curriculum(name) for name in available() if name.startswith(DECAY)}
    places = {
        name: (float(one.system["physics.gradient_decay"]), one.stages[0].horizon) for name, one in shipped.items()
    }
    jointly = policies[policies["curriculum"].isin(places)]
    from_scratch = policies[(policies["stage"] == "efficiency") & policies["policy"].isin(cells["policy"])]
    by_place = {place: jointly[jointly["curriculum"] == name] for name, place in places.items()}
    scratch_by_place = dict.fromkeys(by_place, from_scratch[:0])
    scratch_by_place |= dict(iter(from_scratch.groupby(["gradient_decay", "horizon"])))
    flown = cells[cells["policy"].isin(from_scratch["policy"])]
    return (
        "## Temporal gradient decay by horizon\n\nDecay in 1/s, horizon in steps of a training flight; mean ± interval "
        "over n seeds.\n\nFrom scratch (`mlflow run . -e efficiency -P physics.gradient_decay=0 -P horizon=60` and so "
        "on, then evaluate), filter off, scene by scene: success in the worst cell, time to goal in the mean of the "
        f"cells in which a flight succeeded.\n\n{_grid(scratch_by_place, lambda members: _by_scene(members, flown))}"
        f"\n\nJoint training (`{DECAY}*`), from a policy that was trained with the decay of its own run, filter on; "
        f"figures as in *Ablations*.\n\n{_grid(by_place, _joint_figures)}"
    )


def _grid(by_place: Mapping[tuple[float, float], pd.DataFrame], figures: Callable[[pd.DataFrame], Row]) -> str:
    """A row for each decay [1/s] and horizon [steps], measured or not."""
    rows = []
    for decay, horizon in sorted(by_place):
        members = by_place[decay, horizon]
        flights = None if members.empty else int(members[FLIGHTS].min())
        row: Row = {"decay": decay, "horizon": int(horizon), "n": len(members), FLIGHTS: flights}
        rows.append(row | ({"success": NOT_MEASURED} if members.empty else figures(members)))
    return markdown_table(rows)


def _by_scene(members: pd.DataFrame, cells: pd.DataFrame) -> Row:
    row: Row = {}
    for scene in cells["scene"].unique():
        of_scene = cells[(cells["scene"] == scene) & cells["policy"].isin(members["policy"])].groupby("policy")
        row[f"success in {scene}"] = interval(of_scene["success_rate"].agg("min", skipna=False)).text(".3g")
        row[f"time in {scene} [s]"] = interval(of_scene["time_to_goal"].mean()).text(".3g")
    return row


def _joint_figures(members: pd.DataFrame) -> Row:
    return {title: interval(members[title]).text() for title in JOINT_FIGURES}
