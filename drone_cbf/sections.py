"""Base class of all settings: frozen, strict, and comparable with runs recorded before a field existed."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, ValidationError, model_serializer, model_validator
from pydantic import SerializerFunctionWrapHandler as Handler
from pydantic_core import ErrorDetails, PydanticCustomError

from drone_cbf.errors import ConfigError, shown

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
_COMPARABLE = "comparable"  # Context of a dump that leaves out neutral values
UNKNOWN = "unknown_name"
"""Type of the error for a key that a section does not have."""


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added after runs had been recorded: ``dropout: Annotated[float, Neutral(0.0)] = 0.0``."""

    value: Any  # With this value everything is as it was before the field existed


def nearest(name: object, known: Iterable[str]) -> str:
    """``; did you mean <name>?`` where one of ``known`` is near; else empty."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def place_of(problem: ErrorDetails) -> str:
    """Dotted name of what an error is about, list indices included."""
    return shown(".".join(str(part) for part in problem["loc"] if part != "[key]"))


def unknown_name(problem: ErrorDetails) -> str:
    """What to say of an error of type :data:`UNKNOWN` at the top or in a nested section."""
    place = place_of(problem)
    return f"{place + '.' if place else ''}{problem['msg']}"


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def comparable(self, recorded_only: bool = False) -> dict[str, Any]:
        """The settings as JSON values for digests and comparisons, without :class:`Neutral` fields at that value.

        A run recorded before a field existed thereby equals one that does not use it. Other defaults count: one may
        change later, and a run with the new one is another run. ``recorded_only`` leaves out what was not given when
        the settings were built, as in an old ``config.yaml``.
        """
        return self.model_dump(mode="json", context=_COMPARABLE, exclude_unset=recorded_only)

    @classmethod
    def parse(cls, content: object, source: str, example: str) -> Self:
        """Checks the parsed file ``source``; ConfigError names file, field and value, and refers to ``example``."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_first(error.errors()[0])}; see {example} for an example") from error

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: Any) -> Any:
        """Before what is missing is reported: that may be what was misspelt."""
        for name in values if isinstance(values, Mapping) else ():
            if name not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                hint = nearest(name, cls.model_fields) or f"; the names are {known}"
                raise PydanticCustomError(UNKNOWN, "{name} is unknown{hint}", {"name": shown(name), "hint": hint})
        return values

    @model_serializer(mode="wrap")
    def _leave_out_neutral(self, handler: Handler, info: SerializationInfo) -> dict[str, Any]:
        values = handler(self)
        for name, field in type(self).model_fields.items() if info.context == _COMPARABLE else ():
            if any(getattr(self, name) == mark.value for mark in field.metadata if isinstance(mark, Neutral)):
                values.pop(name, None)
        return values


def _first(problem: ErrorDetails) -> str:
    """A violation as field, value and what is allowed."""
    if problem["type"] == UNKNOWN:
        return unknown_name(problem)
    value = "" if problem["type"] in ("missing", "value_error") else f" = {problem['input']!r:.60}"
    hint = ""
    if problem["type"] == "literal_error":
        hint = nearest(problem["input"], problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return f"{place_of(problem)}{value}: {problem['msg'].removeprefix('Value error, ')}{hint}"
