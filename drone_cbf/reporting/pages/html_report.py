"""A report as one HTML page that needs no network: pictures are embedded, and its policy forbids any request."""

from __future__ import annotations

from drone_cbf.reporting.pages.document import Document
from drone_cbf.reporting.pages.rendering import render


def html_report(document: Document) -> str:
    """The page."""
    return render("report.html", document=document)
