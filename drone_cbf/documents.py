"""YAML and JSON that people write or a store holds: UTF-8 within bounds of size and depth, every key once."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

LARGEST = 1 << 20
"""Bytes of a document; the longest curricula have some thousand."""
DEEPEST = 32
"""Levels of nesting."""
MOST = 10_000
"""Entries of a document, what is repeated by reference (``*name``) counted each time."""
_CONSTRUCTION = (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML lets through from a scalar that its tag does not fit, such as the date 2020-99-99."""


class UnreadableError(ValueError):
    """A document that cannot be read; the message says why, on one line, for an error that names its source."""


def parse_yaml(content: bytes | str) -> Any:
    """The plain values of a YAML document.

    Raises:
        UnreadableError: it is not UTF-8, too large or too deep, no valid YAML, or gives a key twice.
    """
    try:
        text, bounds = _text(content), _Bounds()
        for event in yaml.parse(text, Loader=_Loader):
            bounds.take(event)
        loader = _Loader(text)  # a safe one: plain values only
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UnreadableError(f"it is not valid YAML: {' '.join(str(error).split())}") from error
    except UnreadableError:
        raise
    except _CONSTRUCTION as error:
        raise UnreadableError(f"it is not valid YAML: {' '.join(str(error).split())}") from error


def parse_json(content: bytes | str, largest: int = 1 << 28) -> Any:
    """The plain values of a JSON document of at most ``largest`` bytes.

    Raises:
        UnreadableError: it is not UTF-8, too large or too deep, or no valid JSON.
    """
    try:
        return json.loads(_text(content, largest))
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(f"it is not valid JSON: {error}") from error


def _text(content: bytes | str, largest: int = LARGEST) -> str:
    if len(content) > largest:
        raise UnreadableError(f"it has more than {largest:,} bytes")
    try:
        return content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise UnreadableError(f"it is not UTF-8 ({reason}); save it in that encoding") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's where PyYAML was built with it: several times faster, and a results page reads thousands of files."""

    def construct_yaml_int(self, node: Any) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > 64:
            raise UnreadableError(f"line {node.start_mark.line + 1}: {node.value[:20]}... is too large a number")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


@dataclass
class _Open:
    """A mapping or list whose end has not been reached."""

    is_mapping: bool
    anchor: str | None
    size: int = 1
    children: int = 0
    keys: dict[Hashable, int] = field(default_factory=dict)  # line of each


class _Bounds:
    """Counts along the parser's events, so that what is too much is refused before it is built."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._sizes: dict[str, int] = {}  # Of every complete node that can be referred to, with all that it refers to

    def take(self, event: Any) -> None:
        """Raises UnreadableError where the document exceeds the bounds, or gives a key twice."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            self._complete(ended.anchor, ended.size, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_repeated(None, None, line)
            self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(self._open) > DEEPEST:
                raise UnreadableError(f"line {line}: it is nested deeper than {DEEPEST} levels")
        elif isinstance(event, yaml.AliasEvent):
            if any(node.anchor == event.anchor for node in self._open):
                raise UnreadableError(f"line {line}: it contains itself by reference; write the values out")
            self._refuse_repeated(None, None, line)
            self._complete(None, self._sizes.get(event.anchor or "", 1), line)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_repeated(event.tag, event.value, line)
            self._complete(event.anchor, 1, line)

    def _complete(self, anchor: str | None, size: int, line: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = size
        if self._open:
            self._open[-1].size += size
            size = self._open[-1].size
        if size > MOST:
            raise UnreadableError(f"line {line}: it has more than {MOST:,} entries, repeated ones counted each time")

    def _refuse_repeated(self, tag: str | None, value: str | None, line: int) -> None:
        """Also counts the children, of which a mapping has keys at the even places."""
        if not self._open:
            return
        parent = self._open[-1]
        parent.children += 1
        if not parent.is_mapping or parent.children % 2 == 0 or value is None:
            return
        if (tag, value) in parent.keys:
            before = parent.keys[tag, value]
            raise UnreadableError(f"line {line}: {value} is given twice (before in line {before}); keep one")
        parent.keys[tag, value] = line
