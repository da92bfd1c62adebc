"""What a sweep searches: a YAML file of names, types and ranges, checked against the settings that it names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from drone_cbf.config import Section, SystemConfig, refuse_repeats
from drone_cbf.errors import ConfigError
from projects.cli.stage_parameters import EfficiencyParameters, EvaluateParameters, PretrainParameters, SafetyParameters
from projects.cli.validation import allowed
from projects.inputs.yaml_files import read_yaml

FOLDER = Path(__file__).resolve().parents[1] / "sweeps"
EXAMPLE = "projects/sweeps/fast.yaml"
STAGES: dict[str, type[Section]] = {
    "efficiency": EfficiencyParameters,
    "pretrain_cbf": PretrainParameters,
    "safety": SafetyParameters,
    "evaluate": EvaluateParameters,
}
"""The stages of a trial, in order."""
NOT_SEARCHED = ("parent_run", "resume_run", "init_run", "replay", "seeds")
"""Parameters of the stages that name runs, or make several of them: a trial is one training."""
KINDS = {"float": float, "int": int}
Scalar = bool | int | float | str


class FloatRange(Section):
    """A real number."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    """Every factor is equally likely, not every difference."""

    @model_validator(mode="after")
    def _is_a_range(self) -> FloatRange:
        _check_range(self.low, self.high, self.log)
        return self


class IntRange(Section):
    """A whole number."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> IntRange:
        _check_range(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError(f"step = {self.step} does not go with log = true; leave one of them out")
        return self


class Choices(Section):
    """One of several values, without an order."""

    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _each_once(self) -> Choices:
        refuse_repeats("choices", self.choices)
        return self


Searched = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]


class Objective(Section):
    """What counts as better."""

    metric: str = Field("eval/success_rate", min_length=1, max_length=250)
    """A figure of the evaluate stage."""
    direction: Literal["maximize", "minimize"] = "maximize"


class SweepSettings(Section):
    """The content of a sweep file."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^[\w.-]+$")
    description: str = Field("", max_length=1000)
    objective: Objective = Objective()
    pruning_metric: str = Field("", max_length=250)
    """A figure that the safety stage reports while it trains, of the objective's kind; empty: the objective's own."""
    begins: Literal["", "efficiency", "pretrain_cbf", "safety"] = ""
    """First stage that every trial trains; empty: the first one that the search touches."""
    given: dict[str, Scalar] = {}
    """Settings that are the same in every trial, named as in ``space``."""
    space: dict[str, Searched] = Field(min_length=1)

    @property
    def reported(self) -> str:
        """The figure by which trials are stopped early."""
        return self.pruning_metric or self.objective.metric

    @property
    def first_stage(self) -> str:
        """The first stage that every trial trains. Settings of the system belong to the very first."""
        touched = [name.partition(".")[0] for name in self.space]
        searched = [stage for stage in STAGES if stage in touched]
        only_stages = all(group in STAGES for group in touched)
        return self.begins or (searched[0] if only_stages else "efficiency")


def load_sweep(name: str) -> SweepSettings:
    """The sweep called ``name`` in projects/sweeps, or in the YAML file at the path ``name``.

    Raises:
        ConfigError: it cannot be read or is not valid; the message names field, value, allowed range and remedy.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? Else " if close else ""
            raise ConfigError(
                f"space = {name} does not exist; {hint}name one of {', '.join(known)}, or give a path to a .yaml file"
            )
        path = FOLDER / f"{name}.yaml"
    content = read_yaml(path, "sweep file", lambda: "correct the path with -P space=<file>")
    if not isinstance(content, dict):
        raise ConfigError(f"sweep file {path}: expected a mapping with 'space'; see {EXAMPLE} for an example")
    settings = SweepSettings.parse(content, f"sweep file {path}", EXAMPLE)
    try:
        check_names(settings)
    except ConfigError as error:
        raise ConfigError(f"sweep file {path}: {error}") from error
    return settings


def check_names(settings: SweepSettings) -> None:
    """ConfigError where a setting does not exist, or would be given a value that it does not allow."""
    for name, value in settings.given.items():
        _check_value(f"given.{name}", find_field(name), value)
    for name, searched in settings.space.items():
        place = f"space.{name}"
        field = find_field(name)
        if name in settings.given:
            raise ConfigError(f"{place} is also in given; leave one of them out")
        _check_stage(place, name.partition(".")[0], settings)
        if isinstance(searched, Choices):
            for value in searched.choices:
                _check_value(f"{place}: choice", field, value)
            continue
        if field.annotation is not KINDS[searched.type]:
            right = next((name for name, kind in KINDS.items() if kind is field.annotation), "categorical")
            raise ConfigError(f"{place}: type = {searched.type} does not fit this setting; write type: {right}")
        for end in ("low", "high"):
            _check_value(f"{place}: {end}", field, getattr(searched, end))


def find_field(name: str) -> FieldInfo:
    """The declaration of ``<stage>.<parameter>`` or ``<group>.<field>``; ConfigError where there is none."""
    group, _, rest = name.partition(".")
    kind: Any = STAGES.get(group) or getattr(SystemConfig.model_fields.get(group), "annotation", None)
    fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
    if rest in fields and not (group in STAGES and rest in NOT_SEARCHED):
        return fields[rest]
    known = known_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near += [one for one in known if one.rpartition(".")[2] == name.rpartition(".")[2]]
    remedy = f"did you mean {' or '.join(dict.fromkeys(near[:2]))}?" if near else "the names are those of --help"
    raise ConfigError(f"{name} is no setting of a stage ({', '.join(STAGES)}) or of the system; {remedy}")


def known_names() -> list[str]:
    """All settings that a sweep may name."""
    stages = [f"{stage}.{name}" for stage, model in STAGES.items() for name in model.model_fields]
    groups: Mapping[str, Any] = SystemConfig().model_dump()
    system = [f"{group}.{name}" for group, fields in groups.items() for name in fields]
    return [name for name in stages if name.partition(".")[2] not in NOT_SEARCHED] + system


def _check_stage(place: str, stage: str, settings: SweepSettings) -> None:
    """The stage must be trained by every trial, and must not change what trials are measured by."""
    order = list(STAGES)
    if stage == "evaluate":
        raise ConfigError(f"{place} would measure every trial by other flights; leave it out, or write it under given")
    if stage in order and order.index(stage) < order.index(settings.first_stage):
        raise ConfigError(
            f"{place} is of a stage that is trained before begins = {settings.begins}; leave begins out, or set it to "
            f"{stage}"
        )


def _check_value(place: str, field: FieldInfo, value: Scalar) -> None:
    """ConfigError, with what is allowed, where a setting refuses ``value``; lists are texts separated by commas."""
    kind: Any = field.annotation
    is_list = get_origin(kind) is tuple and isinstance(value, str)
    read: Any = [part.strip() for part in str(value).split(",")] if is_list else value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(kind, *field.metadata)] if field.metadata else kind)
        adapter.validate_python(read)
    except ValidationError as error:
        names = get_args(get_args(kind)[0] if get_origin(kind) is tuple else kind)
        bounds = ", ".join(name for name in names if isinstance(name, str)) or allowed(field, [""])
        reason = f"allowed: {bounds}" if bounds else error.errors()[0]["msg"]
        raise ConfigError(f"{place} = {value} is refused ({reason}); set another value") from error


def _check_range(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low = {low:g} is not below high = {high:g}; exchange them, or write the setting under given")
    if log and low <= 0:
        raise ValueError(f"low = {low:g} has no logarithm; raise it above 0, or leave log out")
