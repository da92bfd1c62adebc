"""What the gate's run says, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.queries.cells import CELLS_FILE
from drone_cbf.tracking.registry.gates import PASSING_RUNS, Check, GateSettings
from drone_cbf.tracking.registry.judgement import Judged
from projects.running.summaries import UNITS, as_shown, target_text


def gate_page(judged: Judged, checks: Sequence[Check], gates: GateSettings) -> str:
    """The verdict, every check, and how to find all runs that pass."""
    rows = [_row(check) for check in checks]
    verdict = "passed" if all(check.passed for check in checks) else "failed"
    champion = f"run {judged.champion_run}" if judged.champion_run else "none; the thresholds alone decide"
    unsearchable = ", ".join(f"`{name}`" for name in gates.not_searchable)
    without = f" (without {unsearchable}: of cells, only the table `{CELLS_FILE}` holds these)" if unsearchable else ""
    return "\n\n".join(
        [
            f"### Gate: {verdict}",
            f"Judged: run [{judged.run_id}]({run_page(judged.run_id, judged.experiment_id)}). Champion: {champion}.",
            markdown_table(rows),
            "Filters of the MLflow UI's search box and of `search_runs`:",
            f"- every run that has passed: ``{PASSING_RUNS}``\n"
            f"- every evaluation that meets the thresholds{without}: ``{gates.query()}``",
        ]
    )


def _row(check: Check) -> dict[str, object]:
    name = check.metric.rpartition("/")[2]
    return {
        "metric": check.metric,
        "unit": UNITS.get(name, ""),
        "against": "threshold" if check.kind == "absolute" else "champion",
        "value": as_shown(name, check.value),
        "limit": target_text(check),
        "passed": "yes" if check.passed else "**no**",
    }
