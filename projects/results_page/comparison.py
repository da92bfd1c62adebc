"""Curricula and barriers of a results page, on the same scenes, over their seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import CONFIDENCE, interval
from projects.inputs.curriculum_files import ABLATIONS, available
from projects.results_page.benchmark import NOT_MEASURED, PLACES, largest_bound, measured_cells
from projects.results_page.policies import Measured, Policy

NOT_COMPARED = ("fast",)
"""Curricula that nothing is learned under."""
COLUMNS: Mapping[str, tuple[str, str]] = {
    "success": ("success_rate", "min"),
    "largest violation [m/s]": ("max_violation", "max"),
    "largest violation, mean of cells [m/s]": ("max_violation", "mean"),
    "violation, 99.9 % [m/s]": ("violation_p999", "max"),
    "relaxed steps": ("relax_rate", "max"),
    "steps changed": ("intervention_rate", "mean"),
    "time to goal [s]": ("time_to_goal", "mean"),
}
"""Title -> figure of a cell, and how the cells of one policy become one number."""
BARRIER_ERROR = "barrier error [cm]"
FLIGHTS = "flights in a cell"
RELAXED_OF_CHANGED = "relaxed of those changed"
READING = (
    "Each policy counts with its worst of the 18 cells (steps changed, time to goal and the violation that says so: "
    "their mean, which a single flight moves less); mean ± half width "
    f"of the {CONFIDENCE:.0%} Student-t interval over n seeds, none for n = 1. Collisions are all that happened in the "
    "18 cells, the bound is that of the worst seed: all fly the same scenes. The barrier's error is that of the neural "
    "barrier against the analytic one near the boundary (|h| < 0.3 m), the mean over held-out flights at the end of "
    "training."
).replace("%", " %")

BARRIERS = {
    "distance_hocbf": "analytic distance, second order; quadratic slack",
    f"{ABLATIONS}distance_linear": "analytic distance, second order; linear slack",
    f"{ABLATIONS}distance_braking": "analytic braking distance; linear slack; all else as in `distance_hocbf`",
    f"{ABLATIONS}slack_quadratic": "neural braking distance; quadratic slack",
    "analytic_baseline": "analytic braking distance; linear slack",
    "default": "neural braking distance; linear slack",
}
"""Curriculum -> what it flies with."""

Groups = Mapping[tuple[str, float], Sequence[Policy]]


def curricula_section(found: Measured) -> str:
    """Every shipped curriculum that is not an ablation, and every other that was measured."""
    shipped = [name for name in available() if not name.startswith(ABLATIONS) and name not in NOT_COMPARED]
    own = [policy.curriculum for policy in found.policies if policy.trained.stage == "safety"]
    others = [name for name in dict.fromkeys(own) if not name.startswith(ABLATIONS) and name not in shipped]
    rows = [row for name in [*shipped, *others] for row in rows_of(found.groups(name), name)]
    return (
        f"## Curricula\n\nAll on the same scenes. {READING} *Blend* is the share of the neural barrier in the "
        f"evaluation.\n\n{markdown_table(rows)}"
    )


def barriers_section(found: Measured) -> str:
    """The original's barrier beside ours: what makes a policy live on slack, and what cures it."""
    rows = [
        {"barrier and price": text, **row, **by_scene}
        for name, text in BARRIERS.items()
        for row, by_scene in itertools.zip_longest(
            rows_of(found.groups(name), name), map(_violation_by_scene, found.groups(name).values()), fillvalue={}
        )
    ]
    return (
        "## The original's barrier beside the braking barrier\n\nThe original's layer is the soft-min distance with "
        "the second-order condition and a quadratic price on slack; its log tells of slack on 0.82–0.95 of the steps "
        "and of largest violations of 24 (fixed ring) and 69 (random cloud). Violations are of each row's own "
        "analytic barrier, so they compare only where the barrier is the same; relaxed steps and collisions compare "
        f"throughout. How often a filter has to act depends on the policy and on the scenes; *{RELAXED_OF_CHANGED}* is"
        " the share of the steps on which it acts that take slack.\n\n"
        f"{markdown_table(rows)}"
    )


def _violation_by_scene(policies: Sequence[Policy]) -> dict[str, str]:
    """The largest violation in each of the two scenes of the benchmark, which the original told apart."""
    told = {}
    for scene in dict.fromkeys(place[0] for place in PLACES):
        cells = [[cell for cell in measured_cells(policy) if cell["scene"] == scene] for policy in policies]
        largest = [one_number(one, "max_violation", "max") for one in cells if one]
        told[f"violation in {scene}"] = interval(largest).text(".3g")
    return told


def rows_of(groups: Groups, name: str) -> list[dict[str, object]]:
    """One row per group of the curriculum ``name``; one that says so where none was measured."""
    if not groups:
        return [{"curriculum": f"`{name}`", "n": "0", "success": NOT_MEASURED}]
    return [group_row(group, blend, policies) for (group, blend), policies in groups.items()]


def group_row(group: str, blend: float, policies: Sequence[Policy]) -> dict[str, object]:
    """Figures of policies that differ in the seed alone."""
    row: dict[str, object] = {"curriculum": f"`{group}`", "blend": f"{blend:g}", "n": str(len(policies))}
    flown = [cells for policy in policies if (cells := measured_cells(policy))]
    if not flown:
        return {**row, "success": NOT_MEASURED}
    fewest = min(len(one) for one in flown)
    figures = figures_by_seed(policies)
    row |= {title: interval(figures[title].values()).text() for title in figures}
    row[RELAXED_OF_CHANGED] = interval(_relaxed_of_changed(one) for one in flown).text(".3g")
    collisions, flights = (int(sum(cell[key] for one in flown for cell in one)) for key in ("collisions", "rollouts"))
    row["collisions"] = f"{collisions} in {flights:,}"
    row["99 % bound"] = f"{largest_bound(flown):.2g}"
    return row if fewest == len(PLACES) else {**row, "cells": f"{fewest} of {len(PLACES)}"}


def figures_by_seed(policies: Sequence[Policy]) -> dict[str, dict[int, float]]:
    """Title -> seed -> figure, of the policies that have flown."""
    flown = {policy.seed: (policy, cells) for policy in policies if (cells := measured_cells(policy))}
    of_flights = {
        title: {seed: one_number(cells, column, how) for seed, (_, cells) in flown.items()}
        for title, (column, how) in COLUMNS.items()
    }
    errors = {seed: policy.barrier_error for seed, (policy, _) in flown.items()}
    in_cm = {seed: math.nan if error is None else 100.0 * error for seed, error in errors.items()}
    return of_flights | {BARRIER_ERROR: in_cm}


def one_number(cells: Sequence[Mapping[str, Any]], column: str, how: str) -> float:
    """The worst of the cells, or their mean, as ``COLUMNS`` asks."""
    values = [float(cell.get(column, math.nan)) for cell in cells]
    if any(math.isnan(value) for value in values):
        return math.nan
    return {"min": min(values), "max": max(values), "mean": sum(values) / len(values)}[how]


def _relaxed_of_changed(cells: Sequence[Mapping[str, Any]]) -> float:
    """Of the steps on which the filter acts, the share on which it misses its row; NaN where it never acts."""
    relaxed, changed = (one_number(cells, column, "mean") for column in ("relax_rate", "intervention_rate"))
    return relaxed / changed if changed > 0.0 else math.nan
