"""Tables in Markdown and for the terminal, and how numbers are written in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from tabulate import tabulate

ABSENT = "\N{EN DASH}"
"""Stands for None, NaN and a key that a row lacks."""


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A pipe table, columns in order of first appearance, numbers aligned right; ``None.`` for no rows."""
    return _table(rows, "pipe", lambda text: text.replace("|", "\\|").replace("\n", " ")) if rows else "None."


def terminal_table(rows: Sequence[Mapping[str, object]]) -> str:
    """The same columns under a ruled header, for a terminal; empty for no rows."""
    return _table(rows, "simple", str) if rows else ""


def _table(rows: Sequence[Mapping[str, object]], style: str, escape: Callable[[str], str]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[escape(cell_text(row.get(name))) for name in columns] for row in rows]
    sides = ["right" if is_numeric(rows, name) else "left" for name in columns]
    # Formatted beforehand: tabulate's own number parsing would turn the name "1e3" into 1000.
    return tabulate(cells, list(map(escape, columns)), style, disable_numparse=True, colalign=sides)


def percent(fraction: float) -> str:
    """Never rounded to a bound that was not met: 0.99996 reads 99.99 %, 0.00001 reads 0.01 %."""
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", " %")
    hundredths = min(max(round(1e4 * fraction), 1), 9999)
    return f"{hundredths / 100:.2f} %"


def shortened(name: str, longest: int) -> str:
    """``name``, cut with an ellipsis where it has more than ``longest`` characters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def cell_text(value: object) -> str:
    """One value as a table shows it: floats with four significant digits."""
    value = value.item() if hasattr(value, "item") else value  # scalars of NumPy and JAX
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, ".4g") if isinstance(value, float) else str(value)


def is_numeric(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Whether the column holds nothing but numbers and gaps."""
    present = [row[name] for row in rows if row.get(name) is not None]
    return bool(present) and not any(isinstance(value, str | bool) for value in present)
