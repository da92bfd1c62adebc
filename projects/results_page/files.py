"""Files of a results page: where they lie, and that all of them are written or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drone_cbf.errors import ConfigError
from projects.running.stage_runner import ROOT


@dataclass(frozen=True)
class Places:
    """Files of a page, side by side."""

    page: Path
    data: Path
    picture: Path


def places(output: str) -> Places:
    """Raises ConfigError where the page and its data would be one file."""
    page = ROOT / output
    data = page.with_suffix(".json")
    if page == data:
        raise ConfigError(f"output = {output} is where the policies of the page go; name the page, {page.stem}.md say")
    return Places(page, data, page.with_name(f"{page.stem}_ablations.png"))


def write(contents: Mapping[Path, bytes]) -> None:
    """Writes all of the files or none; raises ConfigError where one cannot be written."""
    drafts = {place: place.with_name(f".{place.name}.draft") for place in contents}
    try:
        for place, content in contents.items():
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
            place.parent.mkdir(parents=True, exist_ok=True)
            drafts[place].write_bytes(content)
        for place, draft in drafts.items():
            draft.replace(place)
    except OSError as error:
        raise ConfigError(f"output = {place} cannot be written ({error.strerror}); name another file") from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink()
