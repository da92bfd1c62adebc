"""Base class of all settings: frozen, strict, and comparable with runs recorded before a field existed."""

from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializationInfo, ValidationError, model_serializer
from pydantic import SerializerFunctionWrapHandler as Handler

from drone_cbf.errors import ConfigError

_COMPARABLE = "comparable"  # Context of a dump that leaves out neutral values


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added after runs had been recorded: ``dropout: Annotated[float, Neutral(0.0)] = 0.0``."""

    value: Any  # With this value everything is as it was before the field existed


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
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            value = "" if first["type"] in ("missing", "value_error") else f" = {first['input']!r:.60}"
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{source}: {field}{value}: {message}; see {example} for an example") from error

    @model_serializer(mode="wrap")
    def _leave_out_neutral(self, handler: Handler, info: SerializationInfo) -> dict[str, Any]:
        values = handler(self)
        for name, field in type(self).model_fields.items() if info.context == _COMPARABLE else ():
            if any(getattr(self, name) == mark.value for mark in field.metadata if isinstance(mark, Neutral)):
                values.pop(name, None)
        return values
