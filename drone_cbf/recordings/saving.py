"""Writes a flight in the format that the file's name asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.reporting.records import Flight

FORMATS = {".mcap": ("mcap_files", "write_mcap"), ".rrd": ("rerun_files", "write_rerun")}
"""Ending of a file -> module and function that writes it; loaded on demand, as their packages are an extra."""


def writer(ending: str) -> Callable[[Flight, Path, Sequence[str]], None]:
    """The function that writes files with ``ending``.

    Raises:
        ConfigError: no such format, or its package is not installed.
    """
    if ending not in FORMATS:
        raise ConfigError(f"'{ending}' is no format of recorded flights; the endings are {', '.join(FORMATS)}")
    module, function = FORMATS[ending]
    try:
        return getattr(import_module(f"drone_cbf.recordings.{module}"), function)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"writing '{ending}' needs the package {error.name}: pip install -e '.[recordings]' -c constraints.txt"
        ) from error


def save_flight(flight: Flight, path: str | Path, statuses: Sequence[str]) -> Path:
    """Writes ``flight`` to ``path``, whose ending is one of :data:`FORMATS`, whole or not at all.

    ``statuses``: the name of each status code. Raises ConfigError for another ending or a missing package.
    """
    path = Path(path)
    write, unfinished = writer(path.suffix), path.with_name(f".{path.name}.unfinished{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(flight, unfinished, statuses)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
