"""A document as one HTML page that needs no network: pictures are inside, and its policy forbids any request."""

from __future__ import annotations

import base64

from jinja2 import Environment, StrictUndefined

from drone_cbf.reporting.pages.document import Block, Document, Link
from drone_cbf.reporting.pages.html_template import PAGE


def html_report(document: Document) -> str:
    """The page. Every text is escaped; only the template makes markup."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["png"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    environment.tests["link"] = lambda cell: isinstance(cell, Link)
    environment.filters["kind"] = _kind
    return environment.from_string(PAGE).render(document=document)


def _kind(block: Block) -> str:
    return type(block).__name__.lower()
