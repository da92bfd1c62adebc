"""What the gate's run says, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.registry.gates import PASSING_RUNS, Check
from drone_cbf.tracking.registry.judgement import Judged


def gate_page(judged: Judged, checks: Sequence[Check], query: str) -> str:
    """The verdict, every check, and how to find all runs that pass."""
    rows = [
        {
            "metric": check.metric,
            "against": "threshold" if check.kind == "absolute" else "champion",
            "value": check.value,
            "": ">=" if check.greater_is_better else "<=",
            "limit": check.threshold,
            "passed": check.passed,
        }
        for check in checks
    ]
    verdict = "passed" if all(check.passed for check in checks) else "failed"
    champion = f"run {judged.champion_run}" if judged.champion_run else "none to compare with: only thresholds hold"
    return "\n\n".join(
        [
            f"### Gate: {verdict}",
            f"Judged: run [{judged.run_id}]({run_page(judged.run_id, judged.experiment_id)}). Champion: {champion}.",
            markdown_table(rows),
            "Filters of the MLflow UI's search box and of `search_runs`:",
            f"- every run that has passed: ``{PASSING_RUNS}``\n"
            f"- every evaluation that meets the thresholds: ``{query}``",
        ]
    )
