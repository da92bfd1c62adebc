"""Entry point ``results``: the results page, written from recorded runs."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from drone_cbf.reporting.figures.effects import effects_figure
from drone_cbf.reporting.pages.document import picture_of
from drone_cbf.reporting.tables import terminal_table
from drone_cbf.reporting.trials import headline_rows
from drone_cbf.tracking.queries.selection import select_runs
from projects.cli.store_parameters import ResultsParameters
from projects.results_page.ablations import LARGER_IS_BETTER, drawn_effects
from projects.results_page.data import archive, combined, read_archive
from projects.results_page.output import PAGE, output_file, write
from projects.results_page.page import Page, page_of
from projects.results_page.stored_runs import stored_results
from projects.running.stage_runner import ROOT, Outcome, Stage


def work(stage: Stage) -> Outcome:
    asked = stage.parameters
    output = output_file(asked.output)
    kept = read_archive(ROOT / asked.kept) if asked.kept else None
    records = select_runs(asked.runs, asked.experiment, asked.filter) if asked.runs or asked.experiment else []
    print(f"results: reading {len(records)} runs", flush=True)
    found = stored_results(records)
    page = page_of(combined(kept, found) if kept else found, asked.benchmark)
    text = log(stage, page, command(asked), output)
    print(f"\n{terminal_table(headline_rows(page.headlines()))}\n")
    where = output or f"artifact {PAGE} of run {stage.run.run_id}"
    print(f"results: {len(page.results.policies)} evaluated policies; page: {where}", flush=True)
    return Outcome(text)


def log(stage: Stage, page: Page, written_by: str, output: Path | None) -> str:
    """Writes page, data and figure as artifacts of the run and, where asked for, as files; returns the page."""
    name = Path(output or PAGE)
    picture = f"{name.stem}_ablations.png"
    baseline, effects = drawn_effects(page.ablations)
    text = page.markdown(written_by, picture if effects else "")
    contents = {name.name: text.encode(), name.with_suffix(".zip").name: archive(page.results)}
    if effects:
        contents[picture] = picture_of(effects_figure(effects, LARGER_IS_BETTER, baseline), "ablations").png
    if output:
        write({output.with_name(file): content for file, content in contents.items()})
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        for file, content in contents.items():
            (Path(folder) / file).write_bytes(content)
            stage.run.log_file(Path(folder) / file)
    return text


def command(asked: ResultsParameters) -> str:
    """The command that writes the page."""
    given = {"runs": ",".join(asked.runs), "experiment": asked.experiment, "filter": asked.filter}
    given |= {"kept": asked.kept, "output": asked.output}
    given |= {"benchmark": "" if asked.benchmark == "default" else asked.benchmark}
    words = [f"-P {name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["mlflow run . -e results", *words])
