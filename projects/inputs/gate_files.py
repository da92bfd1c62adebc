"""Finds and checks the thresholds of the gate."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.registry.gates import GateSettings

DEFAULT = Path(__file__).resolve().parents[1] / "gates.yaml"


def load_gates(name: str) -> GateSettings:
    """The gates of the file at the path ``name``; ``default``: projects/gates.yaml.

    Raises:
        ConfigError: it cannot be read, or is not a valid list of gates.
    """
    path = DEFAULT if name == "default" else Path(name)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        where = path if path.is_absolute() else f"{path} (taken from {Path.cwd()})"
        raise ConfigError(
            f"gates file {where} cannot be read ({error}); correct the path or leave gates out"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"gates file {path} is not valid YAML: {' '.join(str(error).split())}; correct it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"gates file {path}: expected a mapping with 'gates'; see projects/gates.yaml for an example")
    try:
        return GateSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] in ("missing", "value_error") else f" = {first['input']!r:.60}"
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"gates file {path}: {field}{value}: {text}; see projects/gates.yaml for an example"
        ) from error
