"""Inputs as no one would write them, and what must hold of whatever is done with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drone_cbf.errors import DroneCbfError

NASTY = (
    *("", " ", "\0", "\n", "a\nb", "\ud800", "\u2028", "\x1b[31m", "nan", "NaN", "inf", "-inf", "1e400", "-0", "0x10"),
    *("1_0", "null", "None", "true", "[]", "{}", "[1,", '"', "'", "\\", ",", ",,", "1,", "=", "--", "-1", "9" * 5000),
    *("../x", "/etc/passwd", "$(touch x)", "`x`", "; x", "%00", "*a", "&a", "!!int x", "open:1", "default", "last"),
)
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=20), st.floats().map(repr), st.integers().map(str))
"""What a parameter may be given: mistakes, attacks, and numbers of every size."""
scalars = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=4))


def values(names: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nested values of a document, with keys from ``names`` and others."""
    keys = st.one_of(names, texts)
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=8,
    )


def altered(content: Any, names: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """``content`` with one of its values, at any depth, replaced or renamed."""
    anything = values(names)
    if not isinstance(content, dict) or not content:
        return anything

    def one(key: Any) -> st.SearchStrategy[Any]:
        deeper = altered(content[key], names).map(lambda value: {**content, key: value})
        rest = {name: value for name, value in content.items() if name != key}
        renamed = texts.map(lambda name: {**rest, name: content[key]})
        return st.one_of(deeper, deeper, renamed, st.just(rest))

    return st.one_of(st.sampled_from(sorted(content)).flatmap(one), anything)


both = pytest.mark.parametrize("often", [1, pytest.param(11, marks=pytest.mark.slow)], ids=["quick", "thorough"])
"""Runs a test with its number of cases, and in ``make test-all`` with eleven times as many other ones."""


def hold(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], cases: int, often: int) -> None:
    """Runs ``check`` on ``cases`` times ``often`` inputs; the same ones each time unless there are many."""

    @settings(
        max_examples=cases * often,
        derandomize=often == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def holds(example: Any) -> None:
        check(example)

    holds()


def refused_or(use: Callable[[], Any]) -> Any:
    """What ``use`` returns, or None where it refuses, which must be on one line that can be printed and stored."""
    try:
        return use()
    except DroneCbfError as error:
        message = str(error)
        assert message and message.isprintable(), repr(message)
        message.encode()
    return None


def is_finite(value: Any) -> bool:
    """Whether a setting, or every entry of a list, is no NaN and not infinite."""
    if isinstance(value, (list, tuple)):
        return all(map(is_finite, value))
    with suppress(TypeError):
        return not isinstance(value, float) or math.isfinite(value)
    return True
