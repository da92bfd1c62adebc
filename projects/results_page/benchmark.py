"""The benchmark of a results page: 27 cells, held against the targets of DESIGN 5 and the original's figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd

from drone_cbf.reporting.tables import percent
from projects.results_page import figures
from projects.results_page.figures import FOREST, GOALS, NOISE, NOT_MEASURED, ORIGINAL, Row

SCENES = (*ORIGINAL, *FOREST)
ENOUGH_FLIGHTS, ENOUGH_IN_A_CELL, LONGEST_TRAINING = 10_000, 1_000, 6.0
"""What the targets ask for: flights without a collision over all cells and seeds, flights of one policy in one cell,
and at most so many minutes of joint training of one seed on two cores."""
NOISE_FREE = "at zero noise"
"""In the title of targets for which only the cells without noise count."""
TARGETS = (
    ("success rate", "100 % on its one goal, 0 % shifted; 78–86 % at zero noise with its safety layer",
     "≥ 99.5 % in every cell", "success_rate", 0.995),
    (f"largest violation {NOISE_FREE} [m/s]", "24 fixed, 69 random", "≤ 0.05", "max_violation", 0.05),
    ("largest violation at every noise [m/s]", "24 fixed, 69 random", "≤ 1.0", "max_violation", 1.0),
    ("relaxed steps", "0.82–0.95", "≤ 0.001", "relax_rate", 0.001),
    (f"final distance, mean, {NOISE_FREE} [cm]", "1.5", "≤ 1.5", "final_distance_mean", 1.5),
    (f"final distance, 95 % quantile, {NOISE_FREE} [cm]", "1.6", "≤ 2", "final_distance_p95", 2.0),
)  # fmt: skip
"""Lines of DESIGN 5: title, the original team's best from its work log, target, and the column and limit it means."""
COUNTED = (
    ("collisions", NOT_MEASURED, f"0 in {ENOUGH_FLIGHTS:,} flights"),
    ("flights of a policy in a cell", "16–200", f"≥ {ENOUGH_IN_A_CELL:,}"),
    ("training of one seed [min]", "days", f"≤ {LONGEST_TRAINING:g}"),
)
OF_CELL = {
    "relaxed steps": "relax_rate",
    "violation, largest [m/s]": "max_violation",
    "violation, 99.9 % [m/s]": "violation_p999",
    "final distance, mean [cm]": "final_distance_mean",
    "final distance, 95 % [cm]": "final_distance_p95",
}
"""Title -> figure of a cell, shown as mean and worst over the seeds."""
Judged = tuple[str, str]
"""Our worst figure, and whether it meets its target."""
UNMEASURED: Judged = (NOT_MEASURED, NOT_MEASURED)


def benchmark_tables(policies: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame, curriculum: str) -> Row:
    """Targets, then cell by cell, of the largest group of the curriculum evaluated at blend 1."""
    groups = [members for (_, blend), members in figures.groups_of(policies, curriculum).items() if blend == 1.0]
    members = max(groups, key=len, default=policies[:0])
    flown = figures.benchmark_cells(cells[cells["policy"].isin(members["policy"])], SCENES)
    flown = flown.assign(**{name: 100.0 * flown[name] for name in ("final_distance_mean", "final_distance_p95")})  # cm
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
    if cells.empty:
        return [UNMEASURED] * (len(TARGETS) + 2)
    collisions, flights, fewest = cells["collisions"].sum(), cells["rollouts"].sum(), cells["rollouts"].min()
    by_policy = cells.groupby("policy")[["collisions", "rollouts"]].sum()
    bound = figures.largest_bound(by_policy["collisions"], by_policy["rollouts"])
    text = f"{collisions:.0f} in {flights:,.0f}; rate of each policy below {bound:.2g} (99 %, Clopper–Pearson)"
    return [
        *(_against_target(target, cells, policies * len(scenes) * len(GOALS)) for target in TARGETS),
        (text, _yes_or_no(collisions == 0 and flights >= ENOUGH_FLIGHTS)),
        (f"{fewest:,.0f}", _yes_or_no(fewest >= ENOUGH_IN_A_CELL)),
    ]


def _against_target(target: tuple[str, str, str, str, float], cells: pd.DataFrame, per_noise: int) -> Judged:
    """The verdict is open while a cell is missing; ``per_noise``: cells that there should be at each noise."""
    title, _, _, column, limit = target
    cells = cells[cells["noise"] == 0.0] if NOISE_FREE in title else cells
    expected = per_noise * (1 if NOISE_FREE in title else len(NOISE))
    if cells.empty:
        return UNMEASURED
    is_success = column == "success_rate"
    worst = cells[column].agg("min" if is_success else "max", skipna=False)
    passes = worst >= limit if is_success else worst <= limit  # NaN fails
    partly = passes and len(cells) < expected
    met = f"in the {len(cells)} of {expected} cells measured" if partly else _yes_or_no(passes)
    return percent(worst) if is_success else f"{worst:.3g}", met


def training_time(runs: pd.DataFrame) -> Judged:
    """Of the seed that took longest: the joint training alone, and with the stages before it."""
    training = runs[runs["stage"] != "evaluate"]
    parts = (training[training["stage"] == "safety"], training)
    alone, whole = (part.groupby("policy")["seconds"].sum().max() / 60.0 for part in parts)
    if not whole >= 0.0:
        return UNMEASURED
    return f"{alone:.1f} (with the shared stages before it {whole:.1f})", _yes_or_no(alone <= LONGEST_TRAINING)


def _yes_or_no(passes: bool) -> str:
    return "yes" if passes else "**no**"


def cell_rows(flown: pd.DataFrame) -> list[Row]:
    """One row for each of the 27 cells; a cell that nobody flew says so."""
    measured = dict(iter(flown.groupby(["scene", "noise", "goals"])))
    rows = []
    for scene, noise, goals in itertools.product(SCENES, NOISE, GOALS):
        cells = measured.get((scene, noise, goals), flown[:0])
        row: Row = {"scene": f"`{scene}`", "noise [m]": f"{noise:g}", "goals": goals, "seeds": len(cells)}
        if cells.empty:
            row["success"] = NOT_MEASURED
        else:
            row["success"] = f"{percent(cells['success_rate'].mean())} / {percent(cells['success_rate'].min())}"
            row |= figures.collision_texts(cells["collisions"], cells["rollouts"])
            over_seeds = ((title, cells[name].agg(["mean", "max"], skipna=False)) for title, name in OF_CELL.items())
            row |= {title: "{:.2g} / {:.2g}".format(*mean_and_worst) for title, mean_and_worst in over_seeds}
        rows.append(row)
    return rows
