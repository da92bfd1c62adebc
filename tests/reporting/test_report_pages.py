import base64
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from drone_cbf.reporting import pages
from drone_cbf.reporting.figures.style import new_figure
from drone_cbf.reporting.pages import render
from drone_cbf.reporting.pages.document import (
    Code,
    Document,
    Fact,
    Heading,
    Link,
    Picture,
    Section,
    Table,
    Text,
    picture_of,
)
from drone_cbf.reporting.pages.pdf_report import pdf_report

RUN_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def picture():
    figure = new_figure(3.0, 2.0)
    figure.subplots().plot([0, 1])
    return picture_of(figure, "a line that rises")


@pytest.fixture(scope="module")
def document(picture):
    rows = [
        {"name": "a < b & c", "value": 1.5, "run": Link(RUN_ID, f"http://127.0.0.1:5000/#/runs/{RUN_ID}")},
        {"name": "d"},
    ]
    blocks = [Text("5 % ± 1, ≤ α"), Heading("Below"), Table(rows, "a note"), picture, Code("line 1\nline 2", "All")]
    return Document(
        "Report <1>",
        "two runs",
        [Fact("Success", "99 %", "worst")],
        [Section("First", blocks), Section("Second", [Text("end")])],
    )


def test_the_page_holds_everything_escaped_with_its_pictures_inside(document, picture):
    page = render("report.html", document=document)
    assert "<h1>Report &lt;1&gt;</h1>" in page and "a &lt; b &amp; c" in page and "5 % ± 1, ≤ α" in page
    (inside,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(inside) == picture.png
    assert re.findall(r'<a href="#(section-\d)">', page) == re.findall(r'<section id="(section-\d)">', page)
    assert f'<a href="http://127.0.0.1:5000/#/runs/{RUN_ID}">{RUN_ID}</a>' in page
    assert '<td class="number">1.5</td>' in page and '<td class="number">–</td>' in page
    assert "default-src 'none'" in page and "<script" not in page and "<details><summary>All</summary>" in page


def test_the_pdf_has_an_outline_links_and_the_pictures(document):
    pdf = pdf_report(document)
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    assert f"http://127.0.0.1:5000/#/runs/{RUN_ID}".encode() in pdf
    assert b"/Outlines" in pdf and b"DejaVuSans" in pdf and b"/Subtype /Image" in pdf
    assert b"/Subtype /Image" not in pdf_report(Document("t", "s", (), [Section("one", [Text("no picture")])]))


def test_what_is_too_large_for_a_page_is_broken_or_shrunk():
    """reportlab refuses what does not fit: long tables, long texts, unbroken words, wide and tall pictures must."""
    wide = {f"column_{k}": "x" * 40 for k in range(12)}
    tall = new_figure(3.0, 30.0)
    long = [{"k": k, "text": "word " * 60} for k in range(120)]
    blocks = [
        Table([wide]),
        Table(long),
        Code("y" * 5000),
        picture_of(tall, "tall"),
        picture_of(new_figure(30.0, 3.0), "wide"),
    ]
    pages = len(re.findall(rb"/Type /Page\b", pdf_report(Document("t", "s", (), [Section("one", blocks)]))))
    assert pages > 5


def test_a_document_without_sections_and_a_picture_that_is_none_are_refused():
    with pytest.raises(ValueError, match="has no section"):
        Document("t", "s")
    with pytest.raises(ValueError, match="is not a PNG"):
        Picture(b"GIF89a", "animal")


def test_the_templates_are_installed_with_the_package():
    """Without it an installed wheel would lack them; a checkout would not show it."""
    folder = Path(pages.__file__).parent
    settings = tomllib.loads((folder.parents[2] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"][pages.__name__]
    others = [
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(others) >= 5 and all(any(fnmatch(str(path), pattern) for pattern in patterns) for path in others)
