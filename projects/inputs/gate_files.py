"""Finds and checks the thresholds of the gate."""

from __future__ import annotations

from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.registry.gates import GateSettings
from projects.inputs.yaml_files import read_yaml

DEFAULT = Path(__file__).resolve().parents[1] / "gates.yaml"


def load_gates(name: str) -> GateSettings:
    """The gates of the file at the path ``name``; ``default``: projects/gates.yaml.

    Raises:
        ConfigError: it cannot be read, or is not a valid list of gates.
    """
    path = DEFAULT if name == "default" else Path(name)
    content = read_yaml(path, "gates file", lambda: "correct the path or leave gates out")
    if not isinstance(content, dict):
        raise ConfigError(f"gates file {path}: expected a mapping with 'gates'; see projects/gates.yaml for an example")
    return GateSettings.parse(content, f"gates file {path}", "projects/gates.yaml")
