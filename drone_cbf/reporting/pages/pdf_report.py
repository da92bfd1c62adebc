"""A document as a PDF of A4 pages: the same content as the HTML page, with an outline and page numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    XPreformatted,
)
from reportlab.platypus import Table as PdfTable

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.pages.document import Block, Code, Document, Fact, Heading, Link, Picture, Section, Table, Text

MARGIN = 17 * mm
WIDTH = A4[0] - 2 * MARGIN
"""Text width [pt]."""
TALLEST, TALLEST_OF_TWO = 205 * mm, 108 * mm
"""Largest height of a picture [pt]: alone on a page, or one of two on a page (``share`` < 1)."""
LONGEST_LINE = 112
"""Characters per line of code; longer lines are broken."""
FACTS_PER_ROW = 4
_FONTS = {"Report": "DejaVuSans", "Report-Bold": "DejaVuSans-Bold", "Report-Mono": "DejaVuSansMono"}

_BODY = ParagraphStyle("body", fontName="Report", fontSize=8.5, leading=12, textColor=HexColor(style.INK), spaceAfter=4)
_NOTE = ParagraphStyle("note", _BODY, fontSize=7.5, leading=10, textColor=HexColor(style.MUTED), spaceAfter=8)
_TITLE = ParagraphStyle("title", _BODY, fontName="Report-Bold", fontSize=18, leading=23, spaceAfter=2)
_SECTION = ParagraphStyle(
    "section", _BODY, fontName="Report-Bold", fontSize=13, leading=17, spaceBefore=14, spaceAfter=5, keepWithNext=1
)
_HEADING = ParagraphStyle("heading", _SECTION, fontSize=10, leading=13, spaceBefore=8, spaceAfter=3)
_CODE = ParagraphStyle("code", _BODY, fontName="Report-Mono", fontSize=6.5, leading=8.8, backColor=HexColor("#F5F7F9"))
_CELL = ParagraphStyle("cell", _BODY, fontSize=7, leading=9, spaceAfter=0)
_NUMBER = ParagraphStyle("number", _CELL, alignment=2)
_FACT = ParagraphStyle("fact", _BODY, fontName="Report-Bold", fontSize=13, leading=17, spaceAfter=0)


def pdf_report(document: Document) -> bytes:
    """The PDF."""
    _register_fonts()
    out = io.BytesIO()
    pages = _Pages(out, document)
    story: list[Flowable] = [Paragraph(escape(document.title), _TITLE), Paragraph(escape(document.subtitle), _NOTE)]
    story += list(_facts(document.facts))
    for section in document.sections:
        story += _section(section)
    pages.build(story)
    return out.getvalue()


def _register_fonts() -> None:
    """Registers the fonts of the figures; PDF's built-in fonts lack many characters."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name, file in _FONTS.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{file}.ttf")))
    pdfmetrics.registerFontFamily("Report", normal="Report", bold="Report-Bold", italic="Report", boldItalic="Report")


class _Pages(BaseDocTemplate):
    """Pages with title and number at the foot, and an outline of the sections."""

    def __init__(self, out: io.BytesIO, document: Document) -> None:
        super().__init__(out, pagesize=A4, title=document.title, author="drone_cbf", subject=document.subtitle)
        frame = Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
        self._foot = document.title
        self.addPageTemplates(PageTemplate("page", [frame], onPage=self._draw_foot))

    def _draw_foot(self, canvas: Any, pages: Any) -> None:
        canvas.saveState()
        canvas.setFont("Report", 7)
        canvas.setFillColor(HexColor(style.MUTED))
        canvas.drawString(MARGIN, 9 * mm, self._foot)
        canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"page {pages.page}")
        canvas.restoreState()

    def afterFlowable(self, flowable: Flowable) -> None:  # named by reportlab
        if isinstance(flowable, Paragraph) and flowable.style.name == "section":
            key = f"section-{self.seq.nextf('section')}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(flowable.getPlainText(), key)


def _section(section: Section) -> list[Flowable]:
    parts: list[Flowable] = [Paragraph(escape(section.title), _SECTION)]
    for block in section.blocks:
        made = _block(block)
        if isinstance(block, Picture):  # keep headings on the page of the picture below them
            heads: list[Flowable] = []
            while parts and getattr(getattr(parts[-1], "style", None), "keepWithNext", 0):
                heads.insert(0, parts.pop())
            made = [KeepTogether([*heads, *made])]
        parts += made
    return parts


def _block(block: Block) -> list[Flowable]:
    if isinstance(block, Text):
        return [Paragraph(escape(block.text), _BODY)]
    if isinstance(block, Heading):
        return [Paragraph(escape(block.text), _HEADING)]
    if isinstance(block, Code):
        title = [Paragraph(escape(block.title), _HEADING)] if block.title else []
        return [*title, *(XPreformatted(escape(part), _CODE) for part in _portions(block.text)), Spacer(0, 5)]
    if isinstance(block, Picture):
        return [_image(block), Paragraph(escape(block.caption), _NOTE)]
    note = [Paragraph(escape(block.note), _NOTE)] if block.note else [Spacer(0, 7)]
    return [_table(block), *note]


def _portions(text: str, lines: int = 60) -> Iterator[str]:
    """Splits text into parts that fit on a page; breaks long lines."""
    broken = [
        line[start : start + LONGEST_LINE]
        for line in text.splitlines()
        for start in range(0, max(len(line), 1), LONGEST_LINE)
    ]
    for start in range(0, len(broken), lines):
        yield "\n".join(broken[start : start + lines])


def _image(picture: Picture) -> Image:
    """Scaled to fit the page, never enlarged beyond 150 dots per inch."""
    pixels = ImageReader(io.BytesIO(picture.png)).getSize()
    natural = [size * 72.0 / style.DPI for size in pixels]
    tallest = TALLEST if picture.share == 1.0 else TALLEST_OF_TWO
    scale = min(1.0, WIDTH * max(picture.share, 0.8) / natural[0], tallest / natural[1])
    return Image(io.BytesIO(picture.png), natural[0] * scale, natural[1] * scale, hAlign="LEFT")


def _facts(facts: Sequence[Fact]) -> Iterator[Flowable]:
    for start in range(0, len(facts), FACTS_PER_ROW):
        row = facts[start : start + FACTS_PER_ROW]
        cells = [
            [Paragraph(escape(text), look) for text, look in ((f.label, _NOTE), (f.value, _FACT), (f.note, _NOTE))]
            for f in row
        ]
        look = [("BACKGROUND", (0, 0), (-1, -1), HexColor("#F5F7F9")), ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEAFTER", (0, 0), (-2, -1), 5, HexColor(style.PAPER))]  # fmt: skip
        yield PdfTable([cells], [WIDTH / FACTS_PER_ROW] * len(row), style=look, hAlign="LEFT")
        yield Spacer(0, 5)


def _table(table: Table) -> PdfTable:
    sides = [_NUMBER if right else _CELL for right in table.right()]
    head = [Paragraph(f"<b>{escape(name)}</b>", side) for name, side in zip(table.columns, sides, strict=True)]
    body = [[Paragraph(_markup(cell), side) for cell, side in zip(row, sides, strict=True)] for row in table.cells()]
    look = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(style.FAINT)),
        ("BACKGROUND", (0, 0), (-1, 0), HexColor("#F5F7F9")),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("VALIGN", (0, 1), (-1, -1), "TOP"),
        *((side, (0, 0), (-1, -1), room) for side, room in
          (("LEFTPADDING", 3), ("RIGHTPADDING", 4), ("TOPPADDING", 2.2), ("BOTTOMPADDING", 2.6))),
    ]  # fmt: skip
    return PdfTable([head, *body], _widths(table), style=look, repeatRows=1, hAlign="LEFT")


def _markup(cell: str | Link) -> str:
    if isinstance(cell, Link):
        address = escape(cell.address, {'"': "&quot;"})
        return f'<a href="{address}" color="{style.BLUE}">{escape(cell.text)}</a>'
    return escape(cell)


def _widths(table: Table) -> list[float]:
    """Column widths [pt]: as wide as the text, or shrunk in proportion down to the longest word."""
    columns = list(zip(table.columns, *table.cells(), strict=True))
    texts = [[cell.text if isinstance(cell, Link) else cell for cell in column] for column in columns]
    least = [max(_measure(word) for text in column for word in (text.split() or [""])) for column in texts]
    wanted = [max(_measure(column[0]) / 2, least[i], *map(_measure, column)) for i, column in enumerate(texts)]
    if sum(wanted) <= WIDTH:
        return wanted
    spare = WIDTH - sum(least)
    if spare <= 0.0:  # the longest words do not fit either: they are broken
        return [WIDTH * width / sum(least) for width in least]
    asked = [want - need for want, need in zip(wanted, least, strict=True)]
    return [need + spare * ask / sum(asked) for need, ask in zip(least, asked, strict=True)]


def _measure(text: str) -> float:
    return pdfmetrics.stringWidth(text, "Report-Bold", _CELL.fontSize) + 8.0
