"""Entry point ``results``: the results page of the repository, written from recorded runs."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.selection import chosen
from projects.reading_parameters import ResultsParameters
from projects.results_kept import kept_text, read_kept
from projects.results_page import measured, results_page
from projects.results_runs import recorded_policies
from projects.running import ROOT, EntryPoint, Outcome, Stage, run_stage

ENTRY = EntryPoint("results", ResultsParameters, device=False, system=False)
PAGE = "results.md"
"""Artifact with the text of the page."""
DATA = "results.json"
"""Artifact with the policies that the page is about."""


def work(stage: Stage) -> Outcome:
    asked = stage.parameters
    place, kept_place = places(asked.output)
    kept = read_kept(ROOT / asked.kept) if asked.kept else []
    records = chosen(asked.runs, asked.experiment, asked.filter)
    print(f"results: reading {len(records)} runs", flush=True)
    found = measured([*kept, *recorded_policies(records)])
    page, data = results_page(found, asked.benchmark, command(asked)), kept_text(found.policies)
    stage.run.log_text(page, PAGE)
    stage.run.log_text(data, DATA)
    write({place: page, kept_place: data})
    print(f"results: {len(found.policies)} evaluated policies, written to {place}", flush=True)
    return Outcome(page)


def places(output: str) -> tuple[Path, Path]:
    """Files of the page and of its policies; raises ConfigError where they would be one file."""
    page = ROOT / output
    kept = page.with_suffix(".json")
    if page == kept:
        raise ConfigError(f"output = {output} is where the policies of the page go; name the page, {page.stem}.md say")
    return page, kept


def command(asked: ResultsParameters) -> str:
    """The command that writes the page."""
    given = {"runs": ",".join(asked.runs), "experiment": asked.experiment, "filter": asked.filter}
    given |= {"kept": asked.kept, "output": asked.output}
    given |= {"benchmark": "" if asked.benchmark == "default" else asked.benchmark}
    words = [f"-P {name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["mlflow run . -e results", *words])


def write(texts: Mapping[Path, str]) -> None:
    """Writes all of the files or none; raises ConfigError where one cannot be written."""
    drafts = {place: place.with_name(f".{place.name}.draft") for place in texts}
    try:
        for place, text in texts.items():
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
            place.parent.mkdir(parents=True, exist_ok=True)
            drafts[place].write_text(text)
        for place, draft in drafts.items():
            draft.replace(place)
    except OSError as error:
        raise ConfigError(f"output = {place} cannot be written ({error.strerror}); name another file") from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink()


def main(argv: Sequence[str] | None = None) -> int:
    return run_stage(ENTRY, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
