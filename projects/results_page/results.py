"""Entry point ``results``: the results page, written from recorded runs."""

from __future__ import annotations

import shlex
from pathlib import Path

from drone_cbf.reporting.figures.effects import effects_figure
from drone_cbf.reporting.pages.document import picture_of
from drone_cbf.reporting.tables import terminal_table
from drone_cbf.reporting.trials import headline_rows
from drone_cbf.tracking.queries.selection import select_runs
from projects.cli.store_parameters import ResultsParameters
from projects.results_page.ablations import LARGER_IS_BETTER, drawn_effects
from projects.results_page.data import archive, combined, read_archive
from projects.results_page.output import PAGE, output_file, picture_of_page, save
from projects.results_page.page import page_of
from projects.results_page.stored_runs import stored_results
from projects.running.stage_runner import ROOT, Outcome, Stage


def work(stage: Stage) -> Outcome:
    parameters = stage.parameters
    output = output_file(parameters.output)
    kept = read_archive(ROOT / parameters.kept) if parameters.kept else None
    named = parameters.runs or parameters.experiment
    records = select_runs(parameters.runs, parameters.experiment, parameters.filter) if named else []
    print(f"results: reading {len(records)} runs", flush=True)
    found = stored_results(records)
    page = page_of(combined(kept, found) if kept else found, parameters.benchmark)
    baseline, effects = drawn_effects(page.ablations)
    name = output or Path(PAGE)
    picture = picture_of_page(name).name if effects else ""
    text = page.markdown(command(parameters), picture)
    contents = {name.name: text.encode(), name.with_suffix(".zip").name: archive(page.results)}
    if effects:
        contents[picture] = picture_of(effects_figure(effects, LARGER_IS_BETTER, baseline), "ablations").png
    save(stage.run, contents, output.parent if output else None)
    print(f"\n{terminal_table(headline_rows(page.headlines()))}\n")
    where = output or f"artifact {PAGE} of run {stage.run.run_id}"
    print(f"results: {len(page.policies)} evaluated policies; page: {where}", flush=True)
    return Outcome(text)


def command(parameters: ResultsParameters) -> str:
    """The command that writes the page."""
    given = {"runs": ",".join(parameters.runs), "experiment": parameters.experiment, "filter": parameters.filter}
    given |= {"kept": parameters.kept, "output": parameters.output}
    given |= {"benchmark": "" if parameters.benchmark == "default" else parameters.benchmark}
    words = [f"-P {name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["mlflow run . -e results", *words])
