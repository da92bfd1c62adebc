"""Reads a YAML file that a parameter names."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path

from drone_cbf.documents import LARGEST, UnreadableError, parse_yaml
from drone_cbf.errors import ConfigError


def read_yaml(path: Path, called: str, remedy: Callable[[], str]) -> object:
    """The content of the file; ``called`` and what ``remedy`` returns complete the message.

    Raises:
        ConfigError: it cannot be read, or is not valid YAML (:func:`drone_cbf.documents.parse_yaml`).
    """
    where = path if path.is_absolute() else f"{path} (taken from {Path.cwd()})"
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{called} {where} cannot be read (it is no plain file); {remedy()}")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: no path can hold NUL, or half of a character
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{called} {where} cannot be read ({reason}); {remedy()}") from error
    try:
        return copy.deepcopy(_parsed(content))
    except UnreadableError as error:
        raise ConfigError(f"{called} {path} cannot be used: {error}; correct it") from error


@functools.lru_cache(maxsize=64)
def _parsed(content: bytes) -> object:
    """A page of results reads the shipped curricula, and those that they extend, for each of its rows."""
    return parse_yaml(content)
