"""Finds a curriculum by name or path."""

from __future__ import annotations

from pathlib import Path

import yaml

from drone_cbf.errors import ConfigError
from drone_cbf.training.curriculum import Curriculum, parse_curriculum

FOLDER = Path(__file__).resolve().parent / "curricula"


def load_curriculum(name: str) -> Curriculum:
    """The curriculum called ``name`` in projects/curricula, or in the YAML file at the path ``name``.

    Raises:
        ConfigError: there is none, or it is not a valid curriculum.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if name not in available():
            names = ", ".join(available())
            raise ConfigError(
                f"curriculum '{name}' does not exist; name one of {names}, or give a path to a .yaml file"
            )
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        where = path if path.is_absolute() else f"{path} (taken from {Path.cwd()})"
        remedy = f"correct the path, or name one of {', '.join(available())}"
        raise ConfigError(f"curriculum file {where} cannot be read ({error.strerror}); {remedy}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"curriculum file {path} is not valid YAML: {' '.join(str(error).split())}; correct it"
        ) from error
    return parse_curriculum(content, str(path))


def available() -> list[str]:
    """Names of the curricula that are shipped."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))
