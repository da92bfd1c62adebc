"""The content of a report (sections of text, tables, pictures), from which the HTML page and the PDF are made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.tables import cell_text, is_numeric


class Link(str):
    """The text of a table cell, and the ``address`` that it links to."""

    address: str

    def __new__(cls, text: str, address: str) -> Link:
        link = super().__new__(cls, text)
        link.address = address
        return link


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


class Heading(Text):
    """A heading within a section."""


@dataclass(frozen=True)
class Code:
    """Commands or settings in a fixed-width font, one per line."""

    text: str
    title: str = ""
    """If given, the HTML page folds the text under this title; the PDF shows all of it."""


@dataclass(frozen=True)
class Table:
    """Rows by column name; columns in order of first appearance."""

    rows: Sequence[Mapping[str, object]]
    note: str = ""

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def cells(self) -> list[list[str]]:
        """One list per row; some cells may be links."""
        rows = [[row.get(name) for name in self.columns] for row in self.rows]
        return [[value if isinstance(value, Link) else cell_text(value) for value in row] for row in rows]

    def right(self) -> list[bool]:
        """Which columns hold numbers."""
        return [is_numeric(self.rows, name) for name in self.columns]


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    png: bytes
    caption: str
    share: float = 1.0
    """Largest fraction of the page width; 0.5 places two pictures side by side in HTML."""

    def __post_init__(self) -> None:
        if not self.png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError(f"picture {self.caption!r} is not a PNG")


Block = Text | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Fact:
    """A headline figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = ()

    def __post_init__(self) -> None:
        if not self.sections:
            raise ValueError(f"document {self.title!r} has no section; pass at least one")


def picture_of(figure: Figure, caption: str, share: float = 1.0) -> Picture:
    """The figure, rendered as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=style.DPI)
    return Picture(out.getvalue(), caption, share)
