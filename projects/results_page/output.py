"""Where a results page is written: artifacts of its run, and files where an output is given."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.running.stage_runner import ROOT

PAGE = "results.md"
"""Name of the page where no output is given."""


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
    taken = next((file for file in (place, place.with_suffix(".zip"), picture_of_page(place)) if file.is_dir()), None)
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


def picture_of_page(page: Path) -> Path:
    """The file with the effects of the ablations."""
    return page.with_name(f"{page.stem}_ablations.png")


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
