"""YAML and JSON that people write or a store holds: UTF-8 within bounds of size and depth, every key once."""

from __future__ import annotations

import json
from collections.abc import Hashable
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
        loader = _Loader(_text(content))
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


class _Loader(yaml.SafeLoader):
    """Counts while it reads, so that what is too much is refused before it is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}  # Of every complete node, with all that it refers to

    def fetch_flow_collection_start(self, token: Any) -> None:
        self._check(self.flow_level, self.line + 1)  # brackets are scanned far ahead of what is composed
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        place = self.peek_event().start_mark.line + 1
        self._depth += 1
        self._count += 1
        self._check(self._depth, place, self._count)
        is_reference = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_reference:
            if id(node) not in self._sizes:
                raise UnreadableError(f"line {place}: it contains itself by reference; write the values out")
            return node
        children = _children(node)
        self._sizes[id(node)] = size = 1 + sum(self._sizes[id(child)] for child in children)
        self._check(self._depth, place, size)
        if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise UnreadableError(f"line {place}: half of a character ({ascii(node.value)[:60]}) is no text")
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
        return node

    def _check(self, depth: int, place: int, count: int = 0) -> None:
        if depth > DEEPEST:
            raise UnreadableError(f"line {place}: it is nested deeper than {DEEPEST} levels")
        if count > MOST:
            raise UnreadableError(f"line {place}: it has more than {MOST:,} entries, repeated ones counted each time")

    def construct_yaml_int(self, node: Any) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > 64:
            raise UnreadableError(f"line {node.start_mark.line + 1}: {node.value[:20]}... is too large a number")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refuse_repeated_keys(node: Any) -> None:
    seen: dict[Hashable, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
        if name in seen:
            raise UnreadableError(f"line {line}: {key.value} is given twice (before in line {seen[name]}); keep one")
        seen[name] = line
