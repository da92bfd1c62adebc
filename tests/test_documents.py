"""Documents as people and stores give them: within bounds, in UTF-8, every key once; else refused on one line."""

from __future__ import annotations

from itertools import pairwise

import pytest

from drone_cbf.documents import DEEPEST, LARGEST, UnreadableError, parse_json, parse_yaml
from drone_cbf.errors import ConfigError, shown

LEVELS = "abcdefghi"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]\n" for below, name in pairwise(LEVELS)
)
"""A document of 300 bytes with 9 to the 9th entries."""
MERGES = BOMB.replace("[x,x,x,x,x,x,x,x,x]", "{k: v}").replace("[*", "{<<: [*").replace("]\n", "]}\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("café: 1".encode("latin-1"), "not UTF-8 .byte 0xe9 at 3.; save it in that encoding"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (BOMB, "line 5: it has more than 10,000 entries"),
        (MERGES, "line 5: it has more than 10,000 entries"),
        ("a: [" + "x," * 20_000 + "]", "line 1: it has more than 10,000 entries"),
        ("a: " + "[" * 5000 + "]" * 5000, "line 1: it is nested deeper than 32 levels"),
        ("\n".join(" " * depth + "a:" for depth in range(DEEPEST + 1)), "line 33: it is nested deeper"),
        ("a: &a [*a]", "line 1: it contains itself by reference"),
        ("#" * (LARGEST + 1), "more than 1,048,576 bytes"),
        ("a: 1\nb: 2\na: 3", "line 3: a is given twice .before in line 1.; keep one"),
        ("a:\n  - b: {c: 1, c: 1}", "line 2: c is given twice"),
        ('a: "\\ud800"', "invalid Unicode character"),
        ("a: 2020-99-99", "not valid YAML: month must be in 1..12"),
        ("a: 0x" + "f" * 6000, "line 1: 0xf+... is too large a number"),
        ("a: " + "9" * 6000, "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: b: c", "not valid YAML: mapping values are not allowed"),
        ("a: 1\0", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("--- 1\n--- 2", "expected a single document"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_document_that_is_too_much_or_ambiguous_is_refused_on_one_line(content: bytes | str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        parse_yaml(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_document_may_refer_to_what_it_holds_and_override_what_it_merges() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    assert parse_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}
    assert parse_yaml(b"\xef\xbb\xbfa: caf\xc3\xa9") == {"a": "café"}, "with the mark that some editors write"


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"{", b"9" * 5000, b""])
def test_json_that_cannot_be_read_is_refused_whatever_it_holds(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="it is not|nested too deeply"):
        parse_json(content)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", "a b"),
        ("a \r\n  b", "a b"),
        ("a\u2028b\x85c", "a b c"),
        ("a\0b\x1b", "a\\x00b\\x1b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_an_errors_message_is_one_line_that_can_be_printed_and_stored(text: str, line: str) -> None:
    assert str(ConfigError(text)) == line and line.isprintable()


def test_a_value_is_shown_with_its_line_breaks_as_escapes_and_else_as_it_is() -> None:
    assert shown("a\nb\ud800") == "a\\nb\\ud800" and shown("café [m/s²] ≥ 1 …") == "café [m/s²] ≥ 1 …"
