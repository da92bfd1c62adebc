"""Entry point ``report``: one HTML page and one PDF on runs, as artifacts of the report's own run."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from drone_cbf.reporting.pages import render
from drone_cbf.reporting.pages.pdf_report import pdf_report
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.queries.selection import select_runs
from projects.comparison.comparison import gather
from projects.running.stage_runner import Outcome, Stage
from projects.training_report.content import report_document
from projects.training_report.runs import ReportRuns, collect

NAME = "report"  # of the folder of artifacts, and of the files in it


def work(stage: Stage) -> Outcome:
    parameters = stage.parameters
    runs = collect(select_runs(parameters.runs, parameters.experiment, parameters.filter))
    print(f"report: reading {len(runs.records)} runs", flush=True)
    comparison = gather(runs.pairs, strict=False) if runs.pairs else None
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    document = report_document(parameters.title, runs, comparison, written)
    print("report: writing HTML and PDF", flush=True)
    page, pdf = render("report.html", document=document), pdf_report(document)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        file = Path(folder) / f"{NAME}.pdf"
        file.write_bytes(pdf)
        stage.run.log_file(file, NAME)
    stage.run.log_text(page, f"{NAME}/{NAME}.html")
    return Outcome(summary(parameters.title, runs))


def summary(title: str, runs: ReportRuns) -> str:
    """Markdown for the run's description: what was reported on."""
    rows = [
        {"stage": one.stage, "run": f"[{one.run_id}]({run_page(one.run_id, one.experiment_id)})"}
        | {"curriculum": one.curriculum or None, "status": one.status}
        for one in runs.records
    ]
    place = f"Artifacts `{NAME}/{NAME}.html` and `{NAME}/{NAME}.pdf`."
    return f"### {title}\n\n{place}\n\n{markdown_table(rows)}"
