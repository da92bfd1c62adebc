"""The benchmark of a results page: 27 cells, held against the targets of DESIGN 5 and the original's figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from drone_cbf.reporting.tables import markdown_table, percent
from projects.results_page.figures import (
    CELLS,
    FOREST,
    GOALS,
    NOISE,
    NOT_MEASURED,
    ORIGINAL,
    benchmark_cells,
    groups_of,
    largest_bound,
)

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

    @property
    def noise_free(self) -> bool:
        """Whether only the cells without noise count."""
        return "at zero noise" in self.title


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
Judged = tuple[str, str]
"""Our worst figure, and whether it meets its target."""
UNMEASURED: Judged = (NOT_MEASURED, NOT_MEASURED)


def benchmark_section(policies: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame, curriculum: str) -> str:
    """Markdown: targets, then cell by cell, of the largest group of the curriculum evaluated at blend 1."""
    groups = [members for (_, blend), members in groups_of(policies, curriculum).items() if blend == 1.0]
    members = max(groups, key=len, default=policies[:0])
    flown = benchmark_cells(cells[cells["policy"].isin(members["policy"])], (*ORIGINAL, *FOREST))
    titles = ["metric", "original's best", "target", "ours, worst", "met", "forest, worst", "met in the forest"]
    ours = [*judged(flown, ORIGINAL, len(members)), training_time(runs[runs["policy"].isin(members["policy"])])]
    forest = [*judged(flown, FOREST, len(members)), ("–", "–")]
    lines = [*(target[:3] for target in TARGETS), *COUNTED]
    rows = [dict(zip(titles, itertools.chain(*parts), strict=True)) for parts in zip(lines, ours, forest, strict=True)]
    seeds = ", ".join(str(seed) for seed in members["seed"]) or "none"
    return (
        f"## The benchmark\n\nPolicies of the curriculum `{curriculum}`, evaluated with the neural barrier alone "
        f"(blend 1); training seeds: {seeds}. *Ours, worst* is the worst of the {CELLS} cells that the original's "
        "benchmark has: scenes `fixed_ring` and `random_cloud`, noise 0, 0.02 and 0.05 m, goals trained, shifted and "
        "random, over all seeds. The 9 cells of the `forest`, with the same noise and goals, are ours alone and stand "
        f"beside them.\n\n{markdown_table(rows)}\n\nAll {CELLS + CELLS // 2} cells, over the seeds (mean / "
        f"worst):\n\n{markdown_table(cell_rows(flown))}"
    )


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
    cells, expected = (
        (cells[cells["noise"] == 0.0], per_noise) if target.noise_free else (cells, per_noise * len(NOISE))
    )
    if cells.empty:
        return UNMEASURED
    values = cells[target.column] * target.scale
    worst = values.max(skipna=False) if target.largest_is_worst else values.min(skipna=False)
    passes = worst <= target.limit if target.largest_is_worst else worst >= target.limit  # NaN fails
    met = (
        f"in the {len(cells)} of {expected} cells measured" if passes and len(cells) < expected else _yes_or_no(passes)
    )
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


def cell_rows(flown: pd.DataFrame) -> list[dict[str, object]]:
    """One row for each of the 27 cells; a cell that nobody flew says so."""
    measured = dict(iter(flown.groupby(["scene", "noise", "goals"])))
    rows = []
    for scene, noise, goals in itertools.product((*ORIGINAL, *FOREST), NOISE, GOALS):
        row: dict[str, object] = {"scene": f"`{scene}`", "noise [m]": f"{noise:g}", "goals": goals}
        cells = measured.get((scene, noise, goals), flown[:0])
        rows.append(row | {"seeds": len(cells), **({"success": NOT_MEASURED} if cells.empty else _cell_figures(cells))})
    return rows


def _cell_figures(cells: pd.DataFrame) -> dict[str, object]:
    success = cells["success_rate"]
    return {
        "success": f"{percent(success.mean())} / {percent(success.min())}",
        "collisions": f"{cells['collisions'].sum():.0f} in {cells['rollouts'].sum():,.0f}",
        "99 % bound": f"{largest_bound(cells['collisions'], cells['rollouts']):.2g}",
        "relaxed steps": _mean_and_worst(cells["relax_rate"]),
        "violation, largest [m/s]": _mean_and_worst(cells["max_violation"]),
        "violation, 99.9 % [m/s]": _mean_and_worst(cells["violation_p999"]),
        "final distance, mean [cm]": _mean_and_worst(100.0 * cells["final_distance_mean"]),
        "final distance, 95 % [cm]": _mean_and_worst(100.0 * cells["final_distance_p95"]),
    }


def _mean_and_worst(values: pd.Series) -> str:
    return f"{values.mean(skipna=False):.2g} / {values.max(skipna=False):.2g}"
