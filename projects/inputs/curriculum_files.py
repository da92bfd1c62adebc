"""Finds a curriculum by name or path, puts together what it extends, and takes a pipeline's sizes from it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from drone_cbf.errors import ConfigError, is_one_line
from drone_cbf.sections import nearest
from drone_cbf.training.curriculum.schema import Curriculum, parse_curriculum
from projects.cli.arguments import KEPT_FROM_PARENT, check
from projects.cli.stage_parameters import PIPELINE_SIZES, PipelineParameters
from projects.inputs.yaml_files import read_yaml

FOLDER = Path(__file__).resolve().parents[1] / "curricula"
DEFAULT = "default"
ABLATIONS = "ablations/"
"""How the names of ablations begin: each changes one thing of another curriculum."""
BASE = "extends"
"""Names the curriculum whose content a file completes or changes."""
EVERY_STAGE = "every_stage"
"""Settings that a file gives to every stage, its own and those of its base."""
PIPELINE = "pipeline"
"""Sizes of a pipeline with this curriculum; no part of the curriculum that the safety stage is given."""

NAMES = (*Curriculum.model_fields, BASE, EVERY_STAGE, PIPELINE)
"""What a file may give at its top."""


def load_curriculum(name: str) -> Curriculum:
    """The curriculum called ``name`` in projects/curricula, or in the YAML file at the path ``name``.

    A file that ``extends`` another is merged into it: mappings field by field, everything else (the list of stages
    too) as a whole; then ``every_stage`` is set on each stage.

    Raises:
        ConfigError: there is none, it is not a valid curriculum, extends itself, or changes the shape of networks.
    """
    path = _place(name, Path())
    content = _content(path, ())
    if isinstance(content, Mapping):
        content = {key: value for key, value in content.items() if key != PIPELINE}
    curriculum = parse_curriculum(content, str(path))
    if shaping := [name for name in KEPT_FROM_PARENT if name in curriculum.system]:
        raise ConfigError(
            f"curriculum {path}: system: {shaping[0]} shapes networks that are trained before the curriculum begins; "
            f"leave it out, and train them with it: mlflow run . -e efficiency -P {shaping[0]}=<value>"
        )
    return curriculum


def with_sizes(parameters: PipelineParameters) -> PipelineParameters:
    """``parameters`` with every size that they leave out: as the curriculum's file says, else as by default.

    Raises:
        ConfigError: the curriculum does not exist, or its ``pipeline`` section is not valid.
    """
    path = _place(parameters.curriculum, Path())
    content = _content(path, ())
    section = content.get(PIPELINE, {}) if isinstance(content, Mapping) else {}
    known = ", ".join(PIPELINE_SIZES)
    if not isinstance(section, Mapping):
        raise ConfigError(f"curriculum {path}: pipeline = {section!r:.80}: give some of {known}")
    if unknown := [name for name in section if name not in PIPELINE_SIZES]:
        hint = nearest(unknown[0], PIPELINE_SIZES) or f"; give some of {known}"
        raise ConfigError(f"curriculum {path}: pipeline.{unknown[0]} is unknown{hint}")
    try:
        sizes = {**PIPELINE_SIZES, **_given(check(PipelineParameters, dict(section)))}
    except ConfigError as error:
        raise ConfigError(f"curriculum {path}: pipeline: {error}") from error
    sized = {**sizes, **_given(parameters)}
    # Unless said otherwise, flights are evaluated over the time for which they are trained.
    return parameters.model_copy(
        update={**sized, "evaluation_horizon": sized["evaluation_horizon"] or sized["horizon"]}
    )


def _given(parameters: PipelineParameters) -> dict[str, Any]:
    """The sizes that are not left out."""
    return {name: size for name in PIPELINE_SIZES if (size := getattr(parameters, name)) not in (None, ())}


@functools.cache
def available() -> tuple[str, ...]:
    """Names of the curricula that are shipped, ablations included."""
    return tuple(sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml")))


def bases_of(name: str) -> list[str]:
    """The shipped curricula that the shipped one extends, the nearest first; none for one that stands alone."""
    content = _read(FOLDER / f"{name}.yaml")
    base = content.get(BASE) if isinstance(content, Mapping) else None
    return [] if base is None else [base, *bases_of(base)]


def nearest_base(name: str, among: Container[str]) -> str | None:
    """Of what the curriculum ``name`` extends, the nearest ``among`` these; what is not shipped extends the default."""
    bases = bases_of(name) if name in available() else [DEFAULT]
    return next((base for base in bases if base in among), None)


def _place(name: str, folder: Path, user: str = "") -> Path:
    """The file of the curriculum ``name``; relative paths begin in ``folder``. ``user``: the file that extends it."""
    if not is_one_line(name):
        raise ConfigError(
            f"{user}curriculum {name!r} holds a line break or a character that cannot be shown; correct the name"
        )
    if Path(name).suffix in (".yaml", ".yml"):
        return folder / name
    if name in (known := available()):
        return FOLDER / f"{name}.yaml"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? Else " if close else ""
    raise ConfigError(
        f"{user}curriculum '{name}' does not exist; {hint}name one of {_plain()}, an ablation ({ABLATIONS}<name>, "
        "listed in docs/curricula.md), or give a path to a .yaml file"
    )


def _content(path: Path, users: tuple[Path, ...]) -> object:
    """What the file says, put together with its base; ``users``: the files that led here, the first one first."""
    content = _read(path)
    if isinstance(content, Mapping) and (unknown := [name for name in content if name not in NAMES]):
        hint = nearest(unknown[0], NAMES) or f"; the names are {', '.join(NAMES)}"
        raise ConfigError(f"curriculum {path}: {unknown[0]} is unknown{hint}")
    if not isinstance(content, Mapping) or not {BASE, EVERY_STAGE} & content.keys():
        return content
    own = {key: value for key, value in content.items() if key not in (BASE, EVERY_STAGE)}
    if BASE in content:
        base = content[BASE]
        if not isinstance(base, str):
            raise ConfigError(f"curriculum {path}: {BASE} = {base!r:.60} is not a name; write {BASE}: default")
        if "name" not in own:
            raise ConfigError(f"curriculum {path}: name is missing; what {BASE} {base} needs a name of its own")
        place = _place(base, path.parent, f"curriculum {path}: {BASE}: ")
        if place.resolve() in [user.resolve() for user in (*users, path)]:
            chain = " -> ".join(map(str, (*users, path, place)))
            raise ConfigError(f"curriculum {path}: {BASE} = {base} leads back to itself ({chain}); break the circle")
        below = _content(place, (*users, path))
        own = _merged(below, own) if isinstance(below, Mapping) else own
    return _with_every_stage(own, content.get(EVERY_STAGE, {}), path)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``, mappings field by field."""
    deeper = {
        key: _merged(base[key], value)
        for key, value in own.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **own, **deeper}


def _with_every_stage(content: dict[str, Any], settings: object, path: Path) -> dict[str, Any]:
    """``settings`` on each stage, where there are stages to put them on (what else is wrong, the schema says)."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"curriculum {path}: {EVERY_STAGE} = {settings!r:.60} is not a mapping like {{horizon: 60}}")
    stages = content.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
        return content
    return {**content, "stages": [_merged(stage, settings) for stage in stages]}


def _read(path: Path) -> object:
    return read_yaml(path, "curriculum file", lambda: f"correct the path, or name one of {_plain()}")


def _plain() -> str:
    return ", ".join(name for name in available() if not name.startswith(ABLATIONS))
