"""Reads a YAML file that a parameter names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.runs.config_text import parse_yaml


def read_yaml(path: Path, called: str, remedy: Callable[[], str]) -> object:
    """The content of the file; ``called`` and what ``remedy`` returns complete the message.

    Raises:
        ConfigError: it cannot be read, or is not valid YAML.
    """
    try:
        return parse_yaml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        where = path if path.is_absolute() else f"{path} (taken from {Path.cwd()})"
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{called} {where} cannot be read ({reason}); {remedy()}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{called} {path} is not valid YAML: {' '.join(str(error).split())}; correct it") from error
