"""Entry point ``results``: the results page, written from recorded runs."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.reporting.figures.trial_figures import effects_figure
from drone_cbf.reporting.pages.document import picture_of
from drone_cbf.reporting.tables import terminal_table
from drone_cbf.reporting.trials import headline_rows
from drone_cbf.tracking.queries.selection import select_runs
from drone_cbf.tracking.runs.stage_run import StageRun, flatten
from projects.cli.store_parameters import ResultsParameters
from projects.results_page.ablations import LARGER_IS_BETTER, drawn_effects, measured_ablations
from projects.results_page.data import archive, combined, read_archive, select_evaluations
from projects.results_page.figures import with_figures
from projects.results_page.page import headlines, notes_on, page_text
from projects.results_page.stored_runs import stored_results
from projects.running.stage_runner import ROOT, Outcome, Stage

PAGE = Path("results.md")
"""Name of the page where no output is given."""


def work(stage: Stage) -> Outcome:
    parameters = stage.parameters
    output = output_file(parameters.output)
    kept = read_archive(ROOT / parameters.kept) if parameters.kept else None
    named = parameters.runs, parameters.experiment, parameters.filter
    records = select_runs(*named) if any(named) else []
    print(f"results: reading {len(records)} runs", flush=True)
    found = stored_results(records)
    results, notes = select_evaluations(combined(kept, found) if kept else found)
    policies = with_figures(results.policies, results.cells)
    ablations = measured_ablations(policies[policies["augment"] == 0.0], parameters.benchmark)
    baseline, effects = drawn_effects(ablations)
    name, data, picture = (file.name for file in files_of(output or PAGE))
    head = {"command": command(parameters), "notes": notes + notes_on(policies), "picture": picture if effects else ""}
    text = page_text(results, policies, ablations, parameters.benchmark, **head)
    contents = {name: text.encode(), data: archive(results)}
    if effects:
        contents[picture] = picture_of(effects_figure(effects, LARGER_IS_BETTER, baseline), "ablations").png
    save(stage.run, contents, output.parent if output else None)
    print(f"\n{terminal_table(headline_rows(headlines(results)))}\n")
    where = output or f"artifact {PAGE} of run {stage.run.run_id}"
    print(f"results: {len(policies)} evaluated policies; page: {where}", flush=True)
    return Outcome(text)


def command(parameters: ResultsParameters) -> str:
    """The command that writes the page."""
    given = flatten(parameters.model_dump(exclude_defaults=True))
    return " ".join(["mlflow run . -e results", *(f"-P {name}={shlex.quote(text)}" for name, text in given.items())])


def files_of(page: Path) -> tuple[Path, Path, Path]:
    """The page, its data, and the figure with the effects of the ablations."""
    return page, page.with_suffix(".zip"), page.with_name(f"{page.stem}_ablations.png")


def output_file(output: str) -> Path | None:
    """The page's file; None where none is given.

    Raises:
        ConfigError: ``output`` is blank, is not a ``.md`` file, lies in a folder that does not exist or cannot be
            written, or leaves the project by a relative path; or a folder has the name of a file that goes with it.
    """
    if not output:
        return None
    place = (ROOT / output).resolve()
    folder, relative = place.parent, not Path(output).is_absolute()
    taken = next((file for file in files_of(place) if file.is_dir()), None)
    problems = {
        "is blank; leave it out, and the page is an artifact of the run alone": not output.strip(),
        "is not a Markdown file; name one, docs/results.md for instance": place.suffix != ".md",
        "lies outside the project; give an absolute path to write there": relative and not place.is_relative_to(ROOT),
        f"lies in a folder that does not exist; create it (mkdir -p {folder}) or name another": not folder.is_dir(),
        f"lies in a folder that cannot be written ({folder}); name another": not os.access(folder, os.W_OK),
        f"needs {taken}, which is a folder; name another file": taken is not None,
    }
    for problem, found in problems.items():
        if found:
            raise ConfigError(f"output = {output!r} {problem}")
    return place


def save(run: StageRun, contents: Mapping[str, bytes], folder: Path | None) -> None:
    """Logs the files to the run, and moves them to ``folder`` where one is given: all of them or none."""
    try:
        with tempfile.TemporaryDirectory(prefix=".results-", dir=folder) as drafts:
            for name, content in contents.items():
                (Path(drafts) / name).write_bytes(content)
                run.log_file(Path(drafts) / name)
            for name in contents if folder else ():
                (Path(drafts) / name).replace(folder / name)
    except OSError as error:
        raise ConfigError(f"output in {folder} cannot be written ({error.strerror}); name another") from error
