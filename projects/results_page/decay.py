"""Temporal gradient decay by horizon on a results page: trained from scratch without a filter, and jointly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import interval
from projects.inputs.curriculum_files import ABLATIONS, available, load_curriculum
from projects.results_page.benchmark import NOT_MEASURED
from projects.results_page.comparison import BARRIER_ERROR, FLIGHTS, figures_by_seed, one_number
from projects.results_page.policies import Cell, Measured, Policy

DECAY = f"{ABLATIONS}decay_"
"""How the ablations of temporal gradient decay begin: a grid of their own."""
JOINT_FIGURES = ("success", "time to goal [s]", "largest violation, mean of cells [m/s]", BARRIER_ERROR)
"""What is shown of policies behind the filter, where nearly all flights succeed."""

Grid = Mapping[tuple[float, int], Sequence[Policy]]
"""Decay [1/s] and steps of a training flight -> the policies that were trained so."""


def decay_section(found: Measured) -> str:
    """Policies of the efficiency stage flown without a filter, then those of the safety stage behind it."""
    jointly = _jointly(found)
    plainly = _from_scratch(found, jointly)
    scenes = list(dict.fromkeys(cell["scene"] for group in plainly.values() for one in group for cell in _plain(one)))
    from_scratch = [_scratch_row(place, policies, scenes) for place, policies in _by_place(plainly)]
    behind_it = [_joint_row(place, policies) for place, policies in _by_place(jointly)]
    return (
        "## Temporal gradient decay by horizon\n\nDecay in 1/s, horizon in steps of a training flight; mean ± interval "
        "over n seeds.\n\nFrom scratch (`mlflow run . -e efficiency -P physics.gradient_decay=0 -P horizon=60` and so "
        "on, then evaluate), filter off, scene by scene: success in the worst cell, time to goal in the mean of the "
        f"cells in which a flight succeeded.\n\n{markdown_table(from_scratch)}"
        f"\n\nJoint training (`{DECAY}*`), from a policy that was trained with the decay of its own run, filter on; "
        f"figures as among the ablations.\n\n{markdown_table(behind_it)}"
    )


def _jointly(found: Measured) -> Grid:
    grid = {}
    for name in (name for name in available() if name.startswith(DECAY)):
        curriculum = load_curriculum(name)
        place = (float(curriculum.system["physics.gradient_decay"]), curriculum.stages[0].horizon)
        grid[place] = [policy for group in found.groups(name).values() for policy in group]
    return grid


def _from_scratch(found: Measured, places: Iterable[tuple[float, int]]) -> Grid:
    """At ``places``, measured or not, and wherever else one was trained."""
    grid: dict[tuple[float, int], list[Policy]] = {place: [] for place in places}
    for policy in found.policies:
        if policy.trained.stage == "efficiency" and policy.horizon is not None and _plain(policy):
            grid.setdefault((policy.gradient_decay, policy.horizon), []).append(policy)
    return grid


def _plain(policy: Policy) -> list[Cell]:
    return policy.flown(filtered=False)


def _by_place(grid: Grid) -> list[tuple[tuple[float, int], Sequence[Policy]]]:
    return [(place, grid[place]) for place in sorted(grid)]


def _scratch_row(place: tuple[float, int], policies: Sequence[Policy], scenes: Sequence[str]) -> dict[str, object]:
    row = _place(place, policies, filtered=False)
    if not policies:
        return row | {"success": NOT_MEASURED}
    for scene in scenes:
        flown = [cells for policy in policies if (cells := _of_scene(policy, scene))]
        row[f"success in {scene}"] = interval(one_number(cells, "success_rate", "min") for cells in flown).text(".3g")
        row[f"time in {scene} [s]"] = interval(_mean_time(cells) for cells in flown).text(".3g")
    return row


def _of_scene(policy: Policy, scene: str) -> list[Cell]:
    return [cell for cell in _plain(policy) if cell["scene"] == scene]


def _mean_time(cells: Sequence[Cell]) -> float:
    times = [cell["time_to_goal"] for cell in cells if not math.isnan(cell["time_to_goal"])]
    return sum(times) / len(times) if times else math.nan


def _joint_row(place: tuple[float, int], policies: Sequence[Policy]) -> dict[str, object]:
    row = _place(place, policies, filtered=True)
    if not policies:
        return row | {"success": NOT_MEASURED}
    figures = figures_by_seed(policies)
    return row | {title: interval(figures[title].values()).text() for title in JOINT_FIGURES}


def _place(place: tuple[float, int], policies: Sequence[Policy], filtered: bool) -> dict[str, object]:
    fewest = min((policy.flights_in_a_cell(filtered) for policy in policies), default=None)
    return {"decay": place[0], "horizon": place[1], "n": len(policies), FLIGHTS: fewest}
