"""From the command line to checked settings: the only parse, done once, at the edge.

``-P name=value`` of ``mlflow run`` arrives as ``--name=value``; a dotted name sets a field of a group of the system, as
in ``-P physics.lag_time=0.1``. Nothing is read from environment variables.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from drone_cbf.config import Section, SystemConfig
from drone_cbf.errors import ConfigError, is_one_line, shown
from projects.cli.run_ids import as_run_id
from projects.cli.validation import explain

GROUPS = tuple(SystemConfig.model_fields)
KEPT_FROM_PARENT = (
    *("policy.features", "policy.node_features", "barrier.features", "sensor.neighbours"),
    *("policy.kind", "barrier.base"),
)
"""Settings that decide the shape or the meaning of the parent's networks."""
NAMING_RUNS = ("resume_run", "parent_run", "init_run", "run", "runs")
"""Parameters whose values are run IDs."""
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Arguments:
    """A checked command line."""

    parameters: Any
    """An instance of the entry point's parameters."""
    system: dict[str, Any]
    """What is set of the system: group -> field -> value, not yet checked: it completes the parent's."""
    system_text: dict[str, str]
    """The same as given: dotted name -> text."""


def parse(entry: str, parameters: type[Section], arguments: Sequence[str], system: bool = True) -> Arguments:
    """The arguments of the entry point; without ``system`` it takes no fields of the system.

    Raises:
        ConfigError: an unknown name, a value of the wrong type or out of its range; the message says what is allowed.
    """
    pairs = _pairs(arguments)
    known = names(parameters, system)
    if unknown := [name for name in pairs if name not in known]:
        raise ConfigError(_unknown(unknown[0], known))
    try:
        given = dict(_reader(parameters, system)(args=[f"--{name}={value}" for name, value in pairs.items()])())
    except (SettingsError, RecursionError) as error:
        raise ConfigError(_not_read(error, pairs, entry)) from error
    groups = {group: given.pop(group) for group in GROUPS if group in given} if system else {}
    return Arguments(check(parameters, given), groups, {name: text for name, text in pairs.items() if "." in name})


@lru_cache(maxsize=32)
def _reader(parameters: type[Section], system: bool) -> CliSettingsSource[Any]:
    """Reads words of a command line; to build it takes longer than to use it."""
    settings = SettingsConfigDict(extra="forbid", cli_exit_on_error=False, cli_kebab_case=False)
    bases: tuple[type, ...] = (parameters, SystemConfig, BaseSettings) if system else (parameters, BaseSettings)
    model = type("CommandLine", bases, {"model_config": settings, "__module__": __name__})
    return CliSettingsSource(model)


def _not_read(error: Exception, pairs: Mapping[str, str], entry: str) -> str:
    """Names the parameter and its value, where the error tells which it is."""
    told = " ".join(str(error).split())
    name = next((name for name in pairs if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", told)), "")
    what = f"{name} = {pairs[name]:.80} cannot be read as values separated by commas" if name else told
    return f"{what}; list the parameters with: python -m projects.{entry} --help"


def as_command(entry: str, given: Arguments) -> str:
    """The ``mlflow run`` command that gives the same, without what is left at its default."""
    fields = type(given.parameters).model_fields
    changed = {name: as_text(value) for name, value in given.parameters if value != fields[name].default}
    return mlflow_run(entry, {**changed, **given.system_text})


def mlflow_run(entry: str, parameters: Mapping[str, str]) -> str:
    """The command line that starts ``entry`` with these ``parameters``, quoted for a shell."""
    return " ".join(["mlflow run . -e", entry, *(f"-P {shlex.quote(f'{n}={text}')}" for n, text in parameters.items())])


def as_text(value: Any) -> str:
    """A value as the command line takes it, to the last bit."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def resume_request(parameters: type[Section], arguments: Sequence[str]) -> str:
    """ID of the interrupted run that the command line asks to resume; empty where it asks for a new one."""
    if "resume_run" not in parameters.model_fields:
        return ""
    try:
        return str(as_run_id(_pairs(arguments).get("resume_run", "")))
    except ConfigError:
        return ""  # the parse reports it, in a run that can be marked as failed


def run_named(arguments: Sequence[str]) -> str:
    """The first run that the command line names, with its parameter: the store must hold it; empty for none."""
    try:
        given = _pairs(arguments)
    except ConfigError:
        return ""
    return next((f"{name} {given[name]}" for name in NAMING_RUNS if given.get(name, "").strip()), "")


def as_recorded(parameters: type[Section], given: Arguments, config: dict[str, Any]) -> Arguments:
    """The settings of an interrupted run from its ``config``, in place of what the command line leaves out.

    Raises:
        ConfigError: the command line sets something else than the run was started with.
    """
    if not all(isinstance(config.get(part), dict) for part in ("parameters", "system")):
        raise ConfigError("config.yaml of the run does not say what it was started with; start a new run")
    recorded = check(parameters, config["parameters"])
    for name, field in parameters.model_fields.items():
        value, before = getattr(given.parameters, name), getattr(recorded, name)
        # A value equal to the default cannot be told from one that was left out: 'mlflow run' passes all of them.
        if name != "resume_run" and value not in (field.default, before):
            raise ConfigError(_keeps(name, value, before))
    system = check(SystemConfig, given.system).model_dump(mode="json")
    for name, text in given.system_text.items():
        group, field_name = name.split(".")
        if system[group][field_name] != (before := (config["system"].get(group) or {}).get(field_name)):
            raise ConfigError(_keeps(name, text, before))
    return Arguments(recorded, config["system"], {})


def _keeps(name: str, value: object, before: object) -> str:
    return f"{name} = {value} differs from the {before} that the run was started with; leave it out, or start a new run"


def build_system(inherited: dict[str, Any] | None, overrides: dict[str, Any], keep: Sequence[str] = ()) -> SystemConfig:
    """The parent's system (or the defaults) with the overrides applied, checked as a whole.

    ``keep`` names fields that must not change, because networks of the parent have their shape.
    """
    merged = {group: {**(inherited or {}).get(group, {}), **overrides.get(group, {})} for group in GROUPS}
    system = check(SystemConfig, merged)
    if inherited is not None:
        before = check(SystemConfig, inherited)
        for name in keep:
            old, new = (attrgetter(name)(one) for one in (before, system))
            if old != new:
                raise ConfigError(
                    f"{name} = {new} differs from the parent run's {old}, whose networks have that shape; "
                    "leave it out, or train them anew with it"
                )
    return system


def check(model: type[Model], values: dict[str, Any]) -> Model:
    """``values`` as a ``model``; a violation becomes a one-line ``ConfigError``."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, model)) from error


def names(parameters: type[Section], system: bool = True) -> list[str]:
    """All names that the command line takes: the flat parameters, then the fields of each group, dotted."""
    groups = SystemConfig().model_dump() if system else {}
    return [*parameters.model_fields, *(f"{group}.{field}" for group, fields in groups.items() for field in fields)]


def given_text(arguments: Sequence[str], name: str) -> str:
    """What the command line gives the parameter; empty where it cannot be read, which the parse reports."""
    try:
        return _pairs(arguments).get(name, "")
    except ConfigError:
        return ""


def words_without(arguments: Sequence[str], *names: str) -> list[str]:
    """The command line without the parameters ``names``, each as one word."""
    return [f"--{name}={value}" for name, value in _pairs(arguments).items() if name not in names]


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    """``--name=value`` and ``--name value`` by name; a value may begin with a minus sign."""
    pairs: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(f"'{word}' is not a parameter; write --name=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{name} has no value; write --{name}=<value>")
            value = rest.pop(0)
        value = value.strip("\r\n").replace("\t", " ")  # what copying from a page or a table brings along
        if not is_one_line(name + value):
            told = f"{shown(name)} = {shown(value):.80}"
            raise ConfigError(f"{told} holds a line break or a character that cannot be shown; leave it out")
        if name in pairs:
            raise ConfigError(f"{name} is given twice; keep one of {pairs[name]} and {value}")
        pairs[name] = value
    return pairs


def _unknown(name: str, known: list[str]) -> str:
    if fields := [k for k in known if k.startswith(f"{name}.")]:
        return f"'{name}' is a group of parameters; set one of {', '.join(fields)}"
    last = name.rpartition(".")[2]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    close += [k for k in known if difflib.SequenceMatcher(None, k.rpartition(".")[2], last).ratio() > 0.8]
    suggestion = " or ".join(dict.fromkeys(close[:2]))
    remedy = f"did you mean {suggestion}?" if suggestion else "list the parameters with --help"
    return f"unknown parameter '{name}'; {remedy}"
