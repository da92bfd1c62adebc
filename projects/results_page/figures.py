"""Figures of each policy of a results page, over the cells of the benchmark, and their summary by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from drone_cbf.evaluation.statistics import rate_upper_bound
from drone_cbf.reporting.trials import interval

ORIGINAL, FOREST = ("fixed_ring", "random_cloud"), ("forest",)
"""Scenes of the original's benchmark, and the one that it never flew."""
NOISE, GOALS = (0.0, 0.02, 0.05), ("trained", "shifted", "random")
"""Noise [m] and goals of the cells in each scene (DESIGN 5)."""
CELLS = len(ORIGINAL) * len(NOISE) * len(GOALS)
NOT_MEASURED = "not measured"
PER_POLICY: Mapping[str, tuple[str, str]] = {
    "success": ("success_rate", "min"),
    "largest violation [m/s]": ("max_violation", "max"),
    "largest violation, mean of cells [m/s]": ("max_violation", "mean"),
    "violation, 99.9 % [m/s]": ("violation_p999", "max"),
    "relaxed steps": ("relax_rate", "max"),
    "steps changed": ("intervention_rate", "mean"),
    "time to goal [s]": ("time_to_goal", "mean"),
}
"""Title -> figure of a cell, and how the 18 cells of one policy become one number."""
IN_FOREST: Mapping[str, tuple[str, str]] = {
    "success in the forest": ("success_rate", "min"),
    "largest violation in the forest [m/s]": ("max_violation", "max"),
}
BARRIER_ERROR, RELAXED_OF_CHANGED, FLIGHTS = "barrier error [cm]", "relaxed of those changed", "flights in a cell"

Row = dict[str, object]


def benchmark_cells(cells: pd.DataFrame, scenes: Sequence[str] = ORIGINAL) -> pd.DataFrame:
    """The cells of the benchmark in ``scenes``, filter on."""
    cells = cells.assign(noise=cells["noise"].round(6))
    of_benchmark = cells["scene"].isin(scenes) & cells["noise"].isin(NOISE) & cells["goals"].isin(GOALS)
    return cells[cells["filtered"] & of_benchmark]


def with_figures(policies: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """``policies`` with a column for each figure; NaN where no cell of the benchmark was flown."""
    flown, forest = (benchmark_cells(cells, scenes).groupby("policy") for scenes in (ORIGINAL, FOREST))
    columns = {title: flown[name].agg(how, skipna=False) for title, (name, how) in PER_POLICY.items()}
    columns |= {title: forest[name].agg(how, skipna=False) for title, (name, how) in IN_FOREST.items()}
    relaxed, changed = (flown[name].mean(skipna=False) for name in ("relax_rate", "intervention_rate"))
    columns |= {RELAXED_OF_CHANGED: (relaxed / changed).where(changed > 0.0), "cells": flown.size()}
    columns |= {"collisions": flown["collisions"].sum(), "flights": flown["rollouts"].sum()}
    columns |= {FLIGHTS: cells.groupby("policy")["rollouts"].min()}
    error = 100.0 * policies["barrier_error"]
    return policies.join(pd.DataFrame(columns), on="policy").assign(**{BARRIER_ERROR: error})


def groups_of(policies: pd.DataFrame, curriculum: str) -> dict[tuple[str, float], pd.DataFrame]:
    """The policies of a curriculum by group and blend, sorted by seed."""
    found = policies[policies["curriculum"] == curriculum].sort_values("seed", kind="stable")
    return dict(iter(found.groupby(["group", "blend"], sort=False)))


def groups_and_rows(policies: pd.DataFrame, curriculum: str) -> list[tuple[pd.DataFrame, Row]]:
    """The groups of the curriculum, each with its row; no policies and a row that says so where none was measured."""
    found = [(some, _group_row(*key, some)) for key, some in groups_of(policies, curriculum).items()]
    return found or [(policies[:0], {"curriculum": f"`{curriculum}`", "n": 0, "success": NOT_MEASURED})]


def group_rows(policies: pd.DataFrame, curriculum: str) -> list[Row]:
    """The rows alone."""
    return [row for _, row in groups_and_rows(policies, curriculum)]


def _group_row(group: str, blend: float, members: pd.DataFrame) -> Row:
    row: Row = {"curriculum": f"`{group}`", "blend": f"{blend:g}", "n": len(members)}
    flown = members[members["cells"] > 0]
    if flown.empty:
        return row | {"success": NOT_MEASURED}
    row |= {title: interval(flown[title]).text() for title in (*PER_POLICY, BARRIER_ERROR)}
    row |= {RELAXED_OF_CHANGED: interval(flown[RELAXED_OF_CHANGED]).text(".3g")}
    row |= collision_texts(flown["collisions"], flown["flights"])
    row |= {title: interval(flown[title]).text() for title in IN_FOREST if flown[title].notna().any()}
    fewest = flown["cells"].min()
    return row if fewest == CELLS else row | {"cells": f"{fewest:.0f} of {CELLS}"}


def collision_texts(collisions: pd.Series, flights: pd.Series) -> Row:
    """All collisions of several policies, and the largest of their bounds."""
    bound = f"{largest_bound(collisions, flights):.2g}"
    return {"collisions": f"{collisions.sum():.0f} in {flights.sum():,.0f}", "99 % bound": bound}


def largest_bound(collisions: pd.Series, flights: pd.Series) -> float:
    """The largest of several policies' 99 % bounds of the collision rate.

    Never pooled: all policies fly the same scenes, so that their flights are not independent trials.
    """
    return max(rate_upper_bound(int(events), int(trials)) for events, trials in zip(collisions, flights, strict=True))
