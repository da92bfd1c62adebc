"""What ``--help`` of an entry point prints: every parameter with its default, meaning, unit and range, and examples."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from drone_cbf.config import Section, SystemConfig
from projects.cli.stage_parameters import Following
from projects.cli.validation import allowed

WIDTH = 110
NAME_WIDTH = 32


def help_text(entry: str, parameters: type[Section], system: bool = True) -> str:
    """The page for ``entry``; without ``system`` it takes no fields of the system."""
    required = [name for name, field in parameters.model_fields.items() if _is_required(parameters, name)]
    needed = "".join(f" -P {name}=<run id>" for name in required)
    seeded = " -P seed=1" if "seed" in parameters.model_fields else ""
    changed = f"{seeded} -P physics.lag_time=0.1" if system else ""
    own = getattr(parameters, "examples", ())
    examples = own or dict.fromkeys((needed, needed + changed))
    paragraphs = f"{entry}: {parameters.__doc__}".split("\n\n")
    lines = [
        "\n\n".join(textwrap.fill(" ".join(part.split()), WIDTH) for part in paragraphs),
        "\nExamples:",
        *(f"  mlflow run . -e {entry}{example}" for example in examples),
        f"  python -m projects.{entry}{(own[-1] if own else needed + changed).replace(' -P ', ' --')}",
        "\nParameters:",
        *_fields(parameters),
    ]
    if not system:
        return "\n".join(lines)
    for group, field in SystemConfig.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, BaseModel)
        lines += [f"\n{group}: {(kind.__doc__ or '').splitlines()[0]}", *_fields(kind, f"{group}.")]
    note = "Later stages inherit all groups (physics to objective) from their parent run."
    if required:
        note = "Groups (physics to objective) are inherited from the parent run; "
        note += "the defaults above hold where it has none."
    return "\n".join([*lines, "", *textwrap.wrap(note, WIDTH)])


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    sizes = getattr(model, "sizes", {})
    for name, field in model.model_fields.items():
        default = f"default {_text(sizes.get(name, field.default))}"
        choices = _choices(field.annotation)
        limits = f"choices: {', '.join(choices)}" if choices else allowed(field, [""])
        notes = "; ".join(filter(None, ["required" if _is_required(model, name) else default, limits]))
        text = f"{' '.join((field.description or '').split())} [{notes.replace('= ', '=~').replace('> ', '>~')}]"
        label, indent = f"  {prefix}{name}".ljust(NAME_WIDTH) + " ", " " * (NAME_WIDTH + 1)
        lines = textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False)
        yield from (line.replace("~", " ") for line in lines)


def _is_required(model: type[BaseModel], name: str) -> bool:
    """A stage's parent has an empty default only so that an interrupted run can be resumed without naming it."""
    return model.model_fields[name].is_required() or (name == "parent_run" and issubclass(model, Following))


def _choices(annotation: object) -> list[str]:
    """The texts that a ``Literal``, or a list of one, allows."""
    arguments = get_args(annotation)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return [str(argument) for argument in arguments]
    return _choices(arguments[0]) if arguments and Ellipsis in arguments else []


def _text(value: object) -> str:
    if value in (None, "", ()):
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
