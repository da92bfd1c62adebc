"""README, CONTRIBUTING and docs agree with the repository: paths, commands, links, imports, layout, citation."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import drone_cbf
from drone_cbf.config import SystemConfig
from tests.test_architecture import DRAWERS, MAY_IMPORT

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
LONGEST_README = 120
SECTIONS = (
    "Result",
    "Start",
    "The four stages",
    "Use the policy",
    "Extend it",
    "Measured",
    "Limits",
    "Papers",
    "Citation and licence",
)
"""Of the README, in the order in which a stranger needs them."""
SUFFIXES = "py|md|txt|toml|cff|sh"
"""Kinds of files that only the repository holds: runs hold .yaml, .json, .png and .npz of their own."""
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:\[[^\]]*\]\(|src=\")([^)\"\s]+)[)\"]")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def repository_paths(text: str) -> Iterator[str]:
    """Inline code that names a file or folder of the repository: below one of its folders, or of a kind of its own."""
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"mlruns"}
    for code in INLINE.findall(text):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code):
            below = "/" in code and code.split("/")[0] in tops
            if below or re.fullmatch(rf".+\.({SUFFIXES})", code):
                yield code


def commands(text: str) -> Iterator[str]:
    """Command lines in fenced blocks and inline code, continued lines joined."""
    blocks = [body.replace("\\\n", " ") for kind, body in FENCED.findall(text) if not kind]
    yield from (line for body in blocks for line in body.splitlines())
    yield from INLINE.findall(FENCED.sub("", text))


def slugs(page: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_answers_in_the_order_in_which_strangers_ask() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= LONGEST_README
    assert tuple(re.findall(r"^## (.+)$", FENCED.sub("", text), re.MULTILINE)) == SECTIONS
    result = text.split("## Result")[1].split("## ")[0]
    assert "filter_on_off.png" in result, "the headline result comes with its picture"


@pytest.fixture(scope="module")
def repository() -> set[str]:
    """Paths of its files and folders, and names of its files; ignored ones, which a clone lacks, are left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    files = listed.stdout.splitlines() or [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
    paths = [Path(file) for file in files if (ROOT / file).exists()]
    return {str(part) for path in paths for part in (Path(path.name), path, *path.parents)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_a_page_names_exists(page: Path, repository: set[str]) -> None:
    named = {path.rstrip("/") for path in repository_paths(page.read_text())}
    assert named - {".venv", ".venv/bin"} <= repository


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_entry_point_and_parameter_that_a_page_uses_is_known(page: Path) -> None:
    fields = {
        f"{group}.{field}"
        for group, declared in SystemConfig.model_fields.items()
        for field in declared.annotation.model_fields  # type: ignore[union-attr]
    }
    for line in commands(page.read_text()):
        entries = re.findall(r"(?:mlflow run \S+.*? -e|^-e|ENTRY=) ?(\w+)", line)
        entries += re.findall(r"python -m projects\.(\w+)", line)
        assert set(entries) <= set(ENTRY_POINTS), line
        entry = entries[0] if entries else "main" if re.search(r"mlflow run \.|make run", line) else None
        known = [ENTRY_POINTS[entry]] if entry else ENTRY_POINTS.values()
        allowed = fields.union(*(each["parameters"] for each in known))
        used = set(re.findall(r"-P ([\w.]+)=", line))
        assert used <= allowed, f"{used - allowed}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), target
        assert not anchor or anchor in slugs(file), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_import_in_an_example_works(page: Path) -> None:
    for kind, body in FENCED.findall(page.read_text()):
        for node in ast.walk(ast.parse(body)) if kind == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {name for line in commands(page.read_text()) for name in re.findall(r"^make ([a-z][\w-]*)", line)}
    assert used <= targets


def test_the_design_shows_every_unit_and_every_room() -> None:
    text = (ROOT / "docs" / "DESIGN.md").read_text()
    pictures = [set(re.findall(r"\w+", body)) for kind, body in FENCED.findall(text) if kind == "mermaid"]
    assert any(set(MAY_IMPORT) - {"__init__"} <= words for words in pictures), "units"
    for package, rooms in DRAWERS.items():
        order = r"\W+(?:\w+\[)?".join(rooms)
        assert re.search(rf"subgraph {package.split('/')[-1]}\n[^\n]*\n\W*{order}\b", text), package


def test_the_citation_names_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (drone_cbf.__version__, project["license"])
    assert {"message", "title", "authors"} <= citation.keys()
    released = f"## [{drone_cbf.__version__}] - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text()
