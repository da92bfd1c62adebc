"""Policies in displaced scenes on a results page: obstacles elsewhere than drawn, and starts in motion."""

from __future__ import annotations

from drone_cbf.reporting.tables import markdown_table
from projects.results_page.ablations import compared_with, nearest_measured
from projects.results_page.comparison import rows_of
from projects.results_page.policies import Measured


def displaced_section(found: Measured, benchmark: str) -> str:
    """Every curriculum that was evaluated so, beside what it changes, by displacement; empty where none was."""
    levels = sorted({policy.augment for policy in found.displaced})
    tables = [_table(found.displaced_by(level), benchmark, level) for level in levels]
    head = (
        "## Displaced scenes\n\nThe same cells with each obstacle displaced by up to 0.5 m times *augment* along each"
        " axis and start velocities of 1 m/s times *augment* (standard deviation), as a curriculum's `augment` does in "
        "training: `mlflow run . -e evaluate -P augment=...`. The change is judged as among the ablations."
    )
    return "\n\n".join([head, *tables]) if tables else ""


def _table(found: Measured, benchmark: str, level: float) -> str:
    named = {policy.curriculum: policy.description for policy in found.policies}
    whole, changed = [], []
    for name, text in named.items():
        beside = nearest_measured(found, name, benchmark)
        if name == benchmark or not found.groups(beside):
            whole += [{"changed": "nothing", **row} for row in rows_of(found.groups(name), name)]
        else:
            changed += [one.row for one in compared_with(found, name, text, beside)]
    return markdown_table([{"augment": f"{level:g}", **row} for row in [*whole, *changed]])
