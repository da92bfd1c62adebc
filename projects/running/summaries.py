"""Markdown for the descriptions of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.runs.nesting import ChildRun


def report_table(title: str, report: Mapping[str, float]) -> str:
    """A heading and one row per figure."""
    rows = [{"figure": name, "value": value} for name, value in report.items()]
    return f"### {title}\n\n{markdown_table(rows)}"


def strata_table(title: str, strata: Mapping[str, Mapping[str, float]]) -> str:
    """A heading and one row per stratum."""
    rows = [{"stratum": name, **report} for name, report in strata.items()]
    return f"### {title}\n\n{markdown_table(rows)}"


def lineage_table(runs: Sequence[ChildRun], experiment_id: str) -> str:
    """The stages in order, each with a link to its run."""
    rows = [
        {
            "stage": run.stage,
            "run": f"[{run.run_id}]({run_page(run.run_id, experiment_id)})",
            "status": run.status,
            "seconds": round(run.seconds, 1),
        }
        for run in runs
    ]
    return f"### Lineage\n\n{markdown_table(rows)}"


CELL_COLUMNS = (
    *("scene", "noise", "goals", "filtered", "success_rate", "collision_rate", "collision_rate_ub99"),
    *("max_violation", "violation_p999", "relax_rate", "intervention_rate", "final_distance_p95"),
)
"""Of the table of cells, what a description shows; the table artifact holds every figure."""


def evaluation_summary(worst: Mapping[str, Mapping[str, float]], cells: Sequence[Mapping[str, object]]) -> str:
    """The worst cell of every figure, filter on beside filter off, then the cells with the filter on (or all)."""
    titles = {"eval": "filter on", "eval_unfiltered": "filter off"}
    names = next(iter(worst.values()))
    rows = [{"figure": name, **{titles[prefix]: figures[name] for prefix, figures in worst.items()}} for name in names]
    shown = [row for row in cells if row["filtered"]] or cells
    table = markdown_table([{name: row[name] for name in CELL_COLUMNS} for row in shown])
    return f"### Worst cell\n\n{markdown_table(rows)}\n\n### Cells\n\n{table}"
