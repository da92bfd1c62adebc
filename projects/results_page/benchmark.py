"""The benchmark of a results page: 27 cells, held against the targets of DESIGN 5 and the original's figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from drone_cbf.reporting.tables import percent
from projects.results_page.figures import (
    FOREST,
    GOALS,
    NOISE,
    NOT_MEASURED,
    ORIGINAL,
    Row,
    benchmark_cells,
    collision_texts,
    groups_of,
    largest_bound,
)

SCENES = (*ORIGINAL, *FOREST)
ENOUGH_FLIGHTS, ENOUGH_IN_A_CELL = 10_000, 1_000
"""Flights without a collision over all cells and seeds, and flights of one policy in one cell, that the targets ask
for."""
LONGEST_TRAINING = 6.0
"""Minutes that the joint training of one seed may take on two cores."""


class Target(NamedTuple):
    """One line of DESIGN 5; ``limit`` and ``scale`` turn ``column`` of the cells into a verdict."""

    title: str
    original: str
    """The original team's best, from its work log."""
    target: str
    column: str
    limit: float
    scale: float = 1.0
    largest_is_worst: bool = True


TARGETS = (
    Target("success rate", "100 % on its one goal, 0 % shifted; 78–86 % at zero noise with its safety layer",
           "≥ 99.5 % in every cell", "success_rate", 0.995, largest_is_worst=False),
    Target("largest violation at zero noise [m/s]", "24 fixed, 69 random", "≤ 0.05", "max_violation", 0.05),
    Target("largest violation at every noise [m/s]", "24 fixed, 69 random", "≤ 1.0", "max_violation", 1.0),
    Target("relaxed steps", "0.82–0.95", "≤ 0.001", "relax_rate", 0.001),
    Target("final distance, mean, at zero noise [cm]", "1.5", "≤ 1.5", "final_distance_mean", 1.5, 100.0),
    Target("final distance, 95 % quantile, at zero noise [cm]", "1.6", "≤ 2", "final_distance_p95", 2.0, 100.0),
)  # fmt: skip
COUNTED = (
    ("collisions", NOT_MEASURED, f"0 in {ENOUGH_FLIGHTS:,} flights"),
    ("flights of a policy in a cell", "16–200", f"≥ {ENOUGH_IN_A_CELL:,}"),
    ("training of one seed [min]", "days", f"≤ {LONGEST_TRAINING:g}"),
)
OF_CELL = {
    "relaxed steps": ("relax_rate", 1.0),
    "violation, largest [m/s]": ("max_violation", 1.0),
    "violation, 99.9 % [m/s]": ("violation_p999", 1.0),
    "final distance, mean [cm]": ("final_distance_mean", 100.0),
    "final distance, 95 % [cm]": ("final_distance_p95", 100.0),
}
"""Title -> figure of a cell and its scale; shown as mean and worst over the seeds."""
Judged = tuple[str, str]
"""Our worst figure, and whether it meets its target."""
UNMEASURED: Judged = (NOT_MEASURED, NOT_MEASURED)


def benchmark_tables(
    policies: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame, curriculum: str
) -> dict[str, object]:
    """Targets, then cell by cell, of the largest group of the curriculum evaluated at blend 1."""
    groups = [members for (_, blend), members in groups_of(policies, curriculum).items() if blend == 1.0]
    members = max(groups, key=len, default=policies[:0])
    flown = benchmark_cells(cells[cells["policy"].isin(members["policy"])], SCENES)
    titles = ["metric", "original's best", "target", "ours, worst", "met", "forest, worst", "met in the forest"]
    ours = [*judged(flown, ORIGINAL, len(members)), training_time(runs[runs["policy"].isin(members["policy"])])]
    forest = [*judged(flown, FOREST, len(members)), ("–", "–")]
    lines = zip([*(target[:3] for target in TARGETS), *COUNTED], ours, forest, strict=True)
    targets = [dict(zip(titles, itertools.chain(*parts), strict=True)) for parts in lines]
    seeds = ", ".join(map(str, members["seed"])) or "none"
    return {"curriculum": curriculum, "seeds": seeds, "targets": targets, "cells": cell_rows(flown)}


def judged(flown: pd.DataFrame, scenes: Sequence[str], policies: int) -> list[Judged]:
    """Our worst figure over the cells of ``scenes`` for each target, then collisions and flights in a cell."""
    cells = flown[flown["scene"].isin(scenes)]
    collisions, flights = cells["collisions"].sum(), cells["rollouts"].sum()
    if cells.empty:
        return [UNMEASURED] * (len(TARGETS) + 2)
    by_policy = cells.groupby("policy")[["collisions", "rollouts"]].sum()
    bound = largest_bound(by_policy["collisions"], by_policy["rollouts"])
    text = f"{collisions:.0f} in {flights:,.0f}; rate of each policy below {bound:.2g} (99 %, Clopper–Pearson)"
    fewest = cells["rollouts"].min()
    return [
        *(_against_target(target, cells, policies * len(scenes) * len(GOALS)) for target in TARGETS),
        (text, _yes_or_no(collisions == 0 and flights >= ENOUGH_FLIGHTS)),
        (f"{fewest:,.0f}", _yes_or_no(fewest >= ENOUGH_IN_A_CELL)),
    ]


def _against_target(target: Target, cells: pd.DataFrame, per_noise: int) -> Judged:
    """The verdict is open while a cell is missing; ``per_noise``: cells that there should be at each noise."""
    noise_free = "at zero noise" in target.title
    cells = cells[cells["noise"] == 0.0] if noise_free else cells
    expected = per_noise * (1 if noise_free else len(NOISE))
    if cells.empty:
        return UNMEASURED
    values = cells[target.column] * target.scale
    worst = values.agg("max" if target.largest_is_worst else "min", skipna=False)
    passes = worst <= target.limit if target.largest_is_worst else worst >= target.limit  # NaN fails
    partly = passes and len(cells) < expected
    met = f"in the {len(cells)} of {expected} cells measured" if partly else _yes_or_no(passes)
    return percent(worst) if target.column == "success_rate" else f"{worst:.3g}", met


def training_time(runs: pd.DataFrame) -> Judged:
    """Of the seed that took longest: the joint training alone, and with the stages before it."""
    training = runs[runs["stage"] != "evaluate"]
    alone = training[training["stage"] == "safety"].groupby("policy")["seconds"].sum().max() / 60.0
    whole = training.groupby("policy")["seconds"].sum().max() / 60.0
    if not whole >= 0.0:
        return UNMEASURED
    return f"{alone:.1f} (with the shared stages before it {whole:.1f})", _yes_or_no(alone <= LONGEST_TRAINING)


def _yes_or_no(passes: bool) -> str:
    return "yes" if passes else "**no**"


def cell_rows(flown: pd.DataFrame) -> list[Row]:
    """One row for each of the 27 cells; a cell that nobody flew says so."""
    measured = dict(iter(flown.groupby(["scene", "noise", "goals"])))
    rows = []
    for place in itertools.product(SCENES, NOISE, GOALS):
        row: Row = {"scene": f"`{place[0]}`", "noise [m]": f"{place[1]:g}", "goals": place[2]}
        cells = measured.get(place, flown[:0])
        rows.append(row | {"seeds": len(cells), **({"success": NOT_MEASURED} if cells.empty else _cell_figures(cells))})
    return rows


def _cell_figures(cells: pd.DataFrame) -> Row:
    success = cells["success_rate"]
    row: Row = {"success": f"{percent(success.mean())} / {percent(success.min())}"}
    row |= collision_texts(cells["collisions"], cells["rollouts"])
    for title, (name, scale) in OF_CELL.items():
        values = scale * cells[name]
        row[title] = f"{values.mean(skipna=False):.2g} / {values.max(skipna=False):.2g}"
    return row
