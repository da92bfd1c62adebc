"""What the import hook checks with."""

from __future__ import annotations

from collections.abc import Callable

from beartype import beartype


def check(fn: Callable) -> Callable:
    """beartype, except on constructors: rebuilding a record from its leaves passes batched arrays and placeholders."""
    return fn if getattr(fn, "__name__", "") == "__init__" else beartype(fn)
