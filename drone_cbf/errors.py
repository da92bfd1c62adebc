"""Errors raised at the edges of drone_cbf. Inside ``jit`` a failure is data, not an exception."""

import re

_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def shown(value: object) -> str:
    """``value`` as text on one line: what cannot be printed (line breaks, NUL, lone surrogates) as escapes."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_one_line(text: str) -> bool:
    """Whether all of ``text`` can be shown: no line breaks, nothing that is invisible or turns what follows around (a
    message or a command would read otherwise than it is), no halves of characters."""
    return text.isprintable()


class DroneCbfError(Exception):
    """Base of every error that a user can cause and fix. The message is one line and ends with the remedy.

    Line breaks of a message, which come with a value or from another package, become spaces.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(_BREAK.sub(" ", message)))


class ConfigError(DroneCbfError):
    """A setting is unknown, has the wrong type, or lies outside its allowed range."""


class LineageError(DroneCbfError):
    """A parent run is missing, unfinished, failed, or lacks what this stage needs."""


class CheckpointError(DroneCbfError):
    """A checkpoint is absent, incomplete, altered, does not match the configuration, or certifies nothing."""


class TrainingError(DroneCbfError):
    """Training cannot continue: too many non-finite updates, or a stage that misses its thresholds."""


class ObservationError(DroneCbfError):
    """An observation sent to a served policy lacks a field, has a wrong shape or type, or is not finite."""


class ExportError(DroneCbfError):
    """A policy cannot be exported: a package is missing, or the exported one does not answer as the served one."""


class GateError(DroneCbfError):
    """An evaluation does not pass the gate."""


class ReproductionError(DroneCbfError):
    """A repeated run did not reproduce the recorded metrics."""
