"""Entry point ``results``: the results page of the repository, written from recorded runs."""

from __future__ import annotations

import shlex

from drone_cbf.reporting.figures.effects import effects_figure
from drone_cbf.reporting.pages.document import picture_of
from drone_cbf.tracking.queries.selection import select_runs
from projects.cli.store_parameters import ResultsParameters
from projects.results_page.ablations import ablations, effects
from projects.results_page.files import places, write
from projects.results_page.kept import kept_text, read_kept
from projects.results_page.page import measured, results_page
from projects.results_page.runs import recorded_policies
from projects.results_page.verdicts import LARGER_IS_BETTER
from projects.running.stage_runner import ROOT, Outcome, Stage

PAGE = "results.md"
"""Artifact with the text of the page."""
DATA = "results.json"
"""Artifact with the policies that the page is about."""


def work(stage: Stage) -> Outcome:
    asked = stage.parameters
    files = places(asked.output)
    kept = read_kept(ROOT / asked.kept) if asked.kept else []
    records = select_runs(asked.runs, asked.experiment, asked.filter)
    print(f"results: reading {len(records)} runs", flush=True)
    found = measured([*kept, *recorded_policies(records)])
    compared = ablations(found, asked.benchmark)
    beside, drawn = effects(compared)
    page = results_page(found, compared, asked.benchmark, command(asked), files.picture.name if drawn else "")
    data = kept_text(found.every)
    contents = {files.page: page.encode(), files.data: data.encode()}
    stage.run.log_text(page, PAGE)
    stage.run.log_text(data, DATA)
    if drawn:
        figure = effects_figure(drawn, LARGER_IS_BETTER, beside)
        contents[files.picture] = picture_of(figure, "ablations").png
    write(contents)
    if drawn:
        stage.run.log_file(files.picture)  # by the name that the page gives it
    print(f"results: {len(found.every)} evaluated policies, written to {files.page}", flush=True)
    return Outcome(page)


def command(asked: ResultsParameters) -> str:
    """The command that writes the page."""
    given = {"runs": ",".join(asked.runs), "experiment": asked.experiment, "filter": asked.filter}
    given |= {"kept": asked.kept, "output": asked.output}
    given |= {"benchmark": "" if asked.benchmark == "default" else asked.benchmark}
    words = [f"-P {name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["mlflow run . -e results", *words])
