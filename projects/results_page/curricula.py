"""Curricula and barriers of a results page, on the same scenes, over their seeds."""

from __future__ import annotations

import pandas as pd

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import interval
from projects.inputs.curriculum_files import ABLATIONS, available
from projects.results_page.figures import (
    ORIGINAL,
    READING,
    RELAXED_OF_CHANGED,
    benchmark_cells,
    group_rows,
    groups_of,
)

NOT_COMPARED = ("fast",)
"""Curricula that are too short to learn anything."""
BARRIERS = {
    "distance_hocbf": "analytic distance, second order; quadratic slack",
    f"{ABLATIONS}distance_linear": "analytic distance, second order; linear slack",
    f"{ABLATIONS}distance_braking": "analytic braking distance; linear slack; all else as in `distance_hocbf`",
    f"{ABLATIONS}slack_quadratic": "neural braking distance; quadratic slack",
    "analytic_baseline": "analytic braking distance; linear slack",
    "default": "neural braking distance; linear slack",
}
"""Curriculum -> its barrier and its price on slack."""
OF_BARRIERS = ("curriculum", "n", "success", "relaxed steps", RELAXED_OF_CHANGED, "collisions")
"""Columns that the table of barriers repeats from the others."""


def curricula_section(policies: pd.DataFrame) -> str:
    """Every shipped curriculum that is not an ablation, and every other that was measured."""
    shipped = [name for name in available() if not name.startswith(ABLATIONS) and name not in NOT_COMPARED]
    trained = policies[policies["stage"] == "safety"]["curriculum"]
    others = [name for name in trained.unique() if not name.startswith(ABLATIONS) and name not in shipped]
    rows = [row for name in [*shipped, *others] for row in group_rows(policies, name)]
    return f"## Curricula\n\n{READING}\n\n{markdown_table(rows)}"


def barriers_section(policies: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The original's barrier next to the braking barrier: why its policies live on slack, and what cures it."""
    largest = benchmark_cells(cells).groupby(["policy", "scene"])["max_violation"].agg("max", skipna=False).unstack()
    rows = []
    for name, text in BARRIERS.items():
        members_of_rows = list(groups_of(policies, name).values()) or [policies[:0]]
        for row, members in zip(group_rows(policies, name), members_of_rows, strict=True):
            by_scene = largest.reindex(index=members["policy"], columns=ORIGINAL).dropna(how="all")
            violations = {f"violation in {scene}": interval(by_scene[scene]).text(".3g") for scene in ORIGINAL}
            shared = {title: row[title] for title in OF_BARRIERS if title in row}
            rows.append({"barrier and price on slack": text, **shared, **(violations if len(members) else {})})
    return (
        "## The original's barrier beside the braking barrier\n\nThe original's filter uses the soft-min distance "
        "with the second-order condition and a quadratic price on slack; its log reports slack on 0.82–0.95 of the "
        "steps and largest violations of 24 (fixed ring) and 69 (random cloud). Figures are those of *Curricula* and "
        "*Ablations*. Violations are of each row's own analytic barrier and compare only where the barrier is the "
        f"same; relaxed steps and collisions compare throughout. *{RELAXED_OF_CHANGED}* is the share of the steps on "
        f"which the filter acts that take slack.\n\n{markdown_table(rows)}"
    )
