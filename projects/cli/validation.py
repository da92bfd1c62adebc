"""Pydantic's list of violations as one line that names field, value, what is allowed, and the remedy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from drone_cbf.errors import shown
from drone_cbf.sections import UNKNOWN, nearest, unknown_name

_KINDS = {"int": "a whole number", "float": "a number", "finite": "a finite number"}
_KINDS |= {"bool": "true or false", "string": "text", "tuple": "a list like 1,2,3"}
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
_BOUNDS |= {"min_length": "at least {} entries", "max_length": "at most {} entries"}
"""How each of pydantic's constraints is written."""


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The violations of ``error``, at most three, on one line; ``model``, where known, tells the ranges."""
    problems = error.errors()
    # A list is also too short for pydantic where it has refused entries: that is no problem of its own.
    refused = {problem["loc"][:-1] for problem in problems if problem["loc"] and isinstance(problem["loc"][-1], int)}
    counted = [p for p in problems if not (p["type"] == "too_short" and p["loc"] in refused)]
    lines = list(dict.fromkeys(_line(problem, model) for problem in counted))
    more = [f"and {len(lines) - 3} more"] if len(lines) > 3 else []
    return " | ".join([*lines[:3], *more])


def _line(problem: ErrorDetails, model: type[BaseModel] | None) -> str:
    path = problem["loc"]
    name = shown(".".join(str(part) for part in path if not isinstance(part, int)))
    if problem["type"] == "value_error":
        return " ".join(problem["msg"].removeprefix("Value error, ").split())
    field = _field(model, path)
    if problem["type"] in ("too_short", "too_long") or (problem["type"] == "missing" and isinstance(path[-1], int)):
        entries = get_args(field.annotation) if field else ()
        fixed = str(len(entries)) if entries and entries[-1] is not Ellipsis else ""
        wanted = fixed or allowed(field, [""]) or "another number"
        return f"{name} has the wrong number of entries ({wanted} expected); separate them with commas"
    if problem["type"] == "missing":
        purpose = f" ({field.description.split('.')[0]})" if field and field.description else ""
        return f"{name} is missing{purpose}; give it with -P {name}=<value>"
    if problem["type"] == UNKNOWN:
        return unknown_name(problem)
    given = f"{name} = {shown(problem['input']):.80}"
    return f"{given} {_complaint(problem, field, path)}; set another value with -P {name}=<value>"


def _complaint(problem: ErrorDetails, field: FieldInfo | None, path: Sequence[Any]) -> str:
    if problem["type"] == "literal_error":
        names = problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"is not one of {names}{nearest(problem['input'], names.split(', '))}"
    bounds = allowed(field, path)
    allowance = f" (allowed: {bounds})" if bounds else ""
    kind = _KINDS.get(problem["type"].split("_")[0])
    if kind and ("type" in problem["type"] or "parsing" in problem["type"] or "from" in problem["type"]):
        return f"is not {kind}{allowance}"
    if problem["type"].startswith(("greater_than", "less_than")):
        return f"is out of range{allowance}"
    return f"is refused: {problem['msg']}{allowance}"


def allowed(field: FieldInfo | None, path: Sequence[Any]) -> str:
    """The range of a field, or of one entry of a list when ``path`` ends in an index, as text; empty when unbounded."""
    if field is None:
        return ""
    notes: list[Any] = list(field.metadata)
    if isinstance(path[-1], int):
        entries = [entry for entry in get_args(field.annotation) if entry is not Ellipsis]
        notes = list(getattr(entries[min(path[-1], len(entries) - 1)], "__metadata__", ())) if entries else []
    notes += [n for note in notes for n in getattr(note, "metadata", ())]
    if field.annotation is str:
        return ""  # lengths of texts only guard the store
    bounds = [
        text.format(limit if isinstance(limit, int) else format(limit, "g"))
        for note in notes
        for name, text in _BOUNDS.items()
        if (limit := getattr(note, name, None)) is not None
    ]
    return ", ".join(dict.fromkeys(bounds))


def _field(model: type[BaseModel] | None, path: Sequence[Any]) -> FieldInfo | None:
    """The declaration that ``path`` leads to."""
    field: FieldInfo | None = None
    kind: Any = model
    for part in itertools.takewhile(lambda part: not isinstance(part, int), path):
        field = getattr(kind, "model_fields", {}).get(part)
        kind = field and field.annotation
    return field
