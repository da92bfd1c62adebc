"""A document as a PDF of A4 pages: the same content as the HTML page, with an outline and page numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import matplotlib
import numpy as np
from reportlab import platypus as pdf
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.pages.document import Block, Code, Document, Fact, Heading, Link, Picture, Table, Text

MARGIN = 17 * mm
WIDTH = A4[0] - 2 * MARGIN  # of the text [pt]
TALLEST, TALLEST_OF_TWO = 205 * mm, 108 * mm
"""Largest height of a picture [pt]: alone on a page, or one of two on a page (``share`` < 1)."""
LONGEST_LINE = 112  # characters per line of code; longer lines are broken
FACTS_PER_ROW = 4
SHADE = HexColor("#F5F7F9")
_FONTS = {"Report": "DejaVuSans", "Report-Bold": "DejaVuSans-Bold", "Report-Mono": "DejaVuSansMono"}

_BODY = ParagraphStyle("body", fontName="Report", fontSize=8.5, leading=12, textColor=HexColor(style.INK), spaceAfter=4)
_NOTE = ParagraphStyle("note", _BODY, fontSize=7.5, leading=10, textColor=HexColor(style.MUTED), spaceAfter=8)
_TITLE = ParagraphStyle("title", _BODY, fontName="Report-Bold", fontSize=18, leading=23, spaceAfter=2)
_SECTION = ParagraphStyle("section", _TITLE, fontSize=13, leading=17, spaceBefore=14, spaceAfter=5, keepWithNext=1)
_HEADING = ParagraphStyle("heading", _SECTION, fontSize=10, leading=13, spaceBefore=8, spaceAfter=3)
_FOLDED = ParagraphStyle("folded", _HEADING, keepWithNext=0)
_CODE = ParagraphStyle("code", _BODY, fontName="Report-Mono", fontSize=6.5, leading=8.8, backColor=SHADE, spaceAfter=9)
_CELL = ParagraphStyle("cell", _BODY, fontSize=7, leading=9, spaceAfter=0)
_NUMBER = ParagraphStyle("number", _CELL, alignment=2)
_FACT = ParagraphStyle("fact", _TITLE, fontSize=13, leading=17, spaceAfter=0)


def pdf_report(document: Document) -> bytes:
    """The PDF."""
    # The fonts of the figures: PDF's built-in fonts lack many characters.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in _FONTS.keys() - set(pdfmetrics.getRegisteredFontNames()):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{_FONTS[name]}.ttf")))
    pdfmetrics.registerFontFamily("Report", normal="Report", bold="Report-Bold", italic="Report", boldItalic="Report")
    out = io.BytesIO()
    story = [_say(document.title, _TITLE), _say(document.subtitle, _NOTE), *_facts(document.facts)]
    for section in document.sections:
        story.append(_say(section.title, _SECTION))
        story += [flowable for block in section.blocks for flowable in _block(block)]
    _Pages(out, document).build(story)
    return out.getvalue()


class _Pages(pdf.BaseDocTemplate):
    """Pages with title and number at the foot, and an outline of the sections."""

    def __init__(self, out: io.BytesIO, document: Document) -> None:
        super().__init__(out, pagesize=A4, title=document.title, author="drone_cbf", subject=document.subtitle)
        frame = pdf.Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
        self.addPageTemplates(pdf.PageTemplate("page", [frame], onPage=_draw_foot))

    def afterFlowable(self, flowable: pdf.Flowable) -> None:  # named by reportlab
        if getattr(flowable, "style", None) is _SECTION:
            key = f"section-{self.seq.nextf('section')}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(flowable.getPlainText(), key)


def _draw_foot(canvas: Any, pages: _Pages) -> None:
    canvas.setFont("Report", 7)
    canvas.setFillColor(HexColor(style.MUTED))
    canvas.drawString(MARGIN, 9 * mm, pages.title)
    canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"page {pages.page}")


def _say(text: str, look: ParagraphStyle) -> pdf.Paragraph:
    return pdf.Paragraph(escape(text), look)


def _block(block: Block) -> list[pdf.Flowable]:
    if isinstance(block, Text):
        return [_say(block.text, _HEADING if isinstance(block, Heading) else _BODY)]
    if isinstance(block, Code):
        broken = re.sub(f"(.{{{LONGEST_LINE}}})(?=.)", r"\1\n", block.text)
        # Long code may begin on this page: only its first lines are kept with the title.
        head = [pdf.CondPageBreak(60), _say(block.title, _FOLDED)] if block.title else []
        return [*head, pdf.XPreformatted(escape(broken), _CODE)]
    if isinstance(block, Picture):
        return [_image(block), _say(block.caption, _NOTE)]
    return [_table(block), _say(block.note, _NOTE) if block.note else pdf.Spacer(0, 7)]


def _image(picture: Picture) -> pdf.Image:
    """Scaled to fit the page, never enlarged beyond 150 dots per inch; on one page with headings and caption."""
    image = pdf.Image(io.BytesIO(picture.png), hAlign="LEFT")
    tallest = TALLEST if picture.share == 1.0 else TALLEST_OF_TWO
    wide, tall = WIDTH * max(picture.share, 0.8) / image.imageWidth, tallest / image.imageHeight
    scale = min(72.0 / style.DPI, wide, tall)
    image.drawWidth, image.drawHeight = scale * image.imageWidth, scale * image.imageHeight
    image.keepWithNext = 1
    return image


def _facts(facts: Sequence[Fact]) -> Iterator[pdf.Flowable]:
    look = [("BACKGROUND", (0, 0), (-1, -1), SHADE), ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEAFTER", (0, 0), (-2, -1), 5, HexColor(style.PAPER))]  # fmt: skip
    for start in range(0, len(facts), FACTS_PER_ROW):
        row = facts[start : start + FACTS_PER_ROW]
        cells = [[_say(fact.label, _NOTE), _say(fact.value, _FACT), _say(fact.note, _NOTE)] for fact in row]
        yield pdf.Table([cells], [WIDTH / FACTS_PER_ROW] * len(row), style=look, hAlign="LEFT", spaceAfter=5)


def _table(table: Table) -> pdf.Table:
    sides = [_NUMBER if right else _CELL for right in table.right()]
    texts = [[f"<b>{escape(name)}</b>" for name in table.columns], *(map(_markup, row) for row in table.cells())]
    cells = [[pdf.Paragraph(text, side) for text, side in zip(row, sides, strict=True)] for row in texts]
    look = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(style.FAINT)), ("BACKGROUND", (0, 0), (-1, 0), SHADE),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"), ("VALIGN", (0, 1), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3), ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2.2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.6),
    ]  # fmt: skip
    return pdf.Table(cells, _widths(table), style=look, repeatRows=1, hAlign="LEFT")


def _markup(cell: str) -> str:
    if isinstance(cell, Link):
        return f'<a href={quoteattr(cell.address)} color="{style.BLUE}">{escape(cell)}</a>'
    return escape(cell)


def _widths(table: Table) -> list[float]:
    """Column widths [pt]: as wide as the text, or shrunk in proportion down to the longest word, or beyond."""
    columns = list(zip(table.columns, *table.cells(), strict=True))
    least = np.array([max(_measure(word) for text in column for word in text.split() or [""]) for column in columns])
    wanted = np.array([max(map(_measure, column)) for column in columns])
    if wanted.sum() <= WIDTH:
        return wanted.tolist()
    spare = max(WIDTH - least.sum(), 0.0) / max((wanted - least).sum(), 1.0)
    return (least * min(1.0, WIDTH / least.sum()) + spare * (wanted - least)).tolist()


def _measure(text: str) -> float:
    return pdfmetrics.stringWidth(text, "Report-Bold", _CELL.fontSize) + 8.0
