"""Files of a results page: where they are, and that all of them are written or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from drone_cbf.errors import ConfigError
from projects.running.stage_runner import ROOT

PAGE = "results.md"
"""Name of the page where no output is given: it is an artifact of the run alone."""


def output_file(output: str) -> Path | None:
    """The page's file; None where none is asked for.

    Raises:
        ConfigError: ``output`` is blank, is not a ``.md`` file, lies in a folder that does not exist or cannot be
            written, or leaves the project by a relative path.
    """
    if not output:
        return None
    place = (ROOT / output).resolve()
    folder = place.parent
    problems = {
        "is blank; leave it out, and the page is an artifact of the run alone": not output.strip(),
        "is not a Markdown file; name one, docs/results.md for instance": place.suffix != ".md" or place.is_dir(),
        "lies outside the project; give an absolute path to write there": not Path(output).is_absolute()
        and not place.is_relative_to(ROOT),
        f"lies in a folder that does not exist; create it (mkdir -p {folder}) or name another": not folder.is_dir(),
        f"lies in a folder that cannot be written ({folder}); name another": not os.access(folder, os.W_OK),
    }
    for problem, found in problems.items():
        if found:
            raise ConfigError(f"output = {output!r} {problem}")
    return place


def write(contents: Mapping[Path, bytes]) -> None:
    """Writes all of the files or none; raises ConfigError where one cannot be written."""
    drafts = {place: place.with_name(f".{place.name}.draft") for place in contents}
    try:
        for place, content in contents.items():
            if place.is_dir():
                raise ConfigError(f"{place} cannot be written (it is a directory); name another output")
            drafts[place].write_bytes(content)
        for place, draft in drafts.items():
            draft.replace(place)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written ({error.strerror}); name another output") from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink()
