"""Markdown tables, and how a rate is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

ABSENT = "\N{EN DASH}"
"""Stands for None, NaN and a key that a row lacks."""


def markdown_table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str] | None = None,
    floatfmt: str | Mapping[str, str] = ".4g",
) -> str:
    """A pipe table of ``rows``, columns in order of first appearance unless ``columns`` names and orders them.

    ``floatfmt`` formats every float, or per column those it names (the others ".4g"). Numbers are aligned right. Raises
    ValueError where there is neither a row nor a column, or no row holds a column that was asked for.
    """
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        raise ValueError("markdown_table: no rows and no columns; pass columns for a table that may be empty")
    unknown = [name for name in columns if rows and not any(name in row for row in rows)]
    if unknown:
        raise ValueError(f"markdown_table: no row holds {', '.join(unknown)}; the rows hold {', '.join(rows[0])}")
    formats = floatfmt if isinstance(floatfmt, Mapping) else dict.fromkeys(columns, floatfmt)
    cells = [[_escape(cell_text(row.get(name), formats.get(name, ".4g"))) for name in columns] for row in rows]
    sides = ["right" if is_numeric(rows, name) else "left" for name in columns]
    heads = [_escape(name) for name in columns]
    # Formatted here, so that tabulate must not guess numbers in text: it would turn the name "1e3" into 1000.
    return tabulate(cells, headers=heads, tablefmt="pipe", disable_numparse=True, colalign=sides if rows else None)


def percent(fraction: float) -> str:
    """Never rounded to a bound that was not met: 0.99996 reads 99.99 %, 0.00001 reads 0.01 %."""
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", " %")
    hundredths = min(max(round(1e4 * fraction), 1), 9999)
    return f"{hundredths / 100:.2f} %"


def cell_text(value: object, floatfmt: str = ".4g") -> str:
    """One value as a table shows it."""
    if value is None or value != value:  # NaN is the one value unequal to itself
        return ABSENT
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return "yes" if value else "no"
    if isinstance(value, int) or (
        getattr(getattr(value, "dtype", None), "kind", "") in "iu" and hasattr(value, "dtype")
    ):
        return str(int(value))
    if isinstance(value, float) or hasattr(value, "dtype"):
        return format(float(value), floatfmt)
    return str(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def is_numeric(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Whether the column holds nothing but numbers and gaps."""
    present = [row[name] for row in rows if row.get(name) is not None]
    return bool(present) and not any(isinstance(value, str | bool) for value in present)
