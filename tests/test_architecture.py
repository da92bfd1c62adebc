"""Who may import whom, and how long things may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "drone_cbf"

SETTINGS = {"sections", "scene_config", "airframes", "physics_config", "sensor_config", "config"}
BASE = SETTINGS | {"errors", "documents", "arrays", "packing", "draws", "devices"}
FLIGHT = BASE | {"physics", "scenes", "perception", "barrier", "safety", "policy", "controller", "crowd", "rollout"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "documents": set(),
    "sections": {"errors"},
    "scene_config": {"sections"},
    "airframes": set(),
    "physics_config": {"sections", "airframes"},
    "sensor_config": {"sections"},
    "config": {"errors", "sections", "scene_config", "physics_config", "sensor_config"},
    "arrays": {"errors", "config"},
    "recorder": set(),
    "packing": set(),
    "draws": {"packing"},
    "devices": set(),
    "physics": BASE,
    "scenes": BASE | {"physics"},
    "perception": BASE | {"physics", "scenes"},
    "barrier": BASE | {"physics", "scenes", "perception"},
    "safety": BASE,
    "policy": BASE | {"physics", "scenes", "perception"},
    "controller": FLIGHT - {"controller", "crowd", "rollout"},
    "crowd": FLIGHT - {"crowd", "rollout"},
    "rollout": FLIGHT - {"rollout"},
    "objectives": FLIGHT,
    "flights": FLIGHT | {"objectives"},
    "training": FLIGHT | {"objectives", "flights", "recorder"},
    "evaluation": FLIGHT | {"objectives", "flights"},
    "serving": FLIGHT,
    "exporting": FLIGHT | {"serving"},
    "gym": FLIGHT | {"objectives"},
    "reporting": BASE,
    "recordings": {"errors", "reporting"},
    "tracking": {"errors", "documents", "config", "recorder"},
    "api": FLIGHT | {"objectives", "flights", "evaluation", "serving", "reporting", "recordings", "tracking"},
    "__init__": FLIGHT | {"recorder", "evaluation", "training", "serving", "api", "gym"},
}
"""Unit of drone_cbf -> the units that it may import (besides itself)."""
DRAWERS: dict[str, tuple[str, ...]] = {
    "drone_cbf/training": ("population", "curriculum", "settings", "data", "barrier", "update", "monitor", "stages"),
    "drone_cbf/tracking": (
        "tags",
        "links",
        "folders",
        "datasets",
        "checkpoints",
        "runs",
        "recording",
        "queries",
        "studies",
        "registry",
    ),
    "drone_cbf/reporting": ("tables", "trials", "fields", "obstacles", "records", "swarms", "figures", "pages"),
    "projects": (
        "cli",
        "inputs",
        "running",
        "pictures",
        "stages",
        "comparison",
        "workflows",
        "sweeping",
        "registration",
        "exporting",
        "training_report",
        "results_page",
    ),
}
"""Package -> its rooms in order: each may import those before it. A main imports ``projects.running.launch`` alone."""
ONLY_IN = {
    **dict.fromkeys(("mlflow", "orbax"), "tracking"),
    **dict.fromkeys(("matplotlib", "plotly", "jinja2", "reportlab"), "reporting"),
    **dict.fromkeys(("onnx", "onnxruntime", "jax2onnx"), "exporting"),
    "gymnasium": "gym",
    **dict.fromkeys(("foxglove", "rerun"), "recordings"),
}
"""Third-party package -> the only unit that may import it."""
OPTIONAL = tuple(f"requirements-{extra}.txt" for extra in ("export", "jax2onnx", "gym", "sweep", "recordings", "ray"))
"""Extras, whose packages the library imports where they are used."""
LONGEST_FILE = 300
LONGEST_FUNCTION = 40
LONGEST_LINE = 120

SOURCES = sorted(PACKAGE.rglob("*.py"))
MAINS = sorted((ROOT / "projects").rglob("*.py"))
OTHER_FOLDERS = ("tests", "benchmarks", "tools", "examples")
OTHERS = sorted(path for folder in OTHER_FOLDERS for path in (ROOT / folder).rglob("*.py"))
STAGES = ("efficiency", "pretrain_cbf", "safety", "evaluate", "pipeline", "register", "gate", "reproduce")
STAGES += ("suite", "sweep", "compare", "report", "results", "export")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_unit_has_a_place_in_the_table() -> None:
    assert {unit_of(path) for path in SOURCES} == set(MAY_IMPORT)


def test_imports_follow_the_arrows() -> None:
    assert faults(SOURCES, against_the_arrows) == {}


def against_the_arrows(path: Path) -> set[str]:
    """What a file of drone_cbf imports and may not."""
    unit, names = unit_of(path), set(imported(path))
    ours = {name.split(".")[1] for name in names if name.startswith("drone_cbf.")}
    others = {name.split(".")[0] for name in names}
    kept = {package for package, allowed in ONLY_IN.items() if unit != allowed} | {"projects"}
    return (ours - {unit} - MAY_IMPORT[unit]) | (others & kept)


def faults(paths: list[Path], found: Callable[[Path], Collection[str]]) -> dict[str, Collection[str]]:
    """File -> what is wrong with it, of the files with which something is."""
    return {name_of(path): wrong for path in paths if (wrong := found(path))}


@pytest.mark.parametrize("package", DRAWERS)
def test_rooms_import_only_what_stands_before_them(package: str) -> None:
    order, dotted = DRAWERS[package], package.replace("/", ".")
    for path in (ROOT / package).rglob("*.py"):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if room == "__init__" or (package == "projects" and room in STAGES):
            continue
        ours = {
            name.removeprefix(f"{dotted}.").split(".")[0] for name in imported(path) if name.startswith(f"{dotted}.")
        }
        assert ours <= set(order[: order.index(room) + 1]), f"{name_of(path)} imports {ours}"


def test_files_functions_and_lines_stay_short() -> None:
    assert faults([*SOURCES, *MAINS, *OTHERS], too_long) == {}


def too_long(path: Path) -> list[str]:
    text = path.read_text()
    lines = text.splitlines()
    long = [f"{len(lines)} lines"] if len(lines) >= LONGEST_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            long += [f"{node.name}: {length} lines"] if length >= LONGEST_FUNCTION else []
    wide = [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    return long + [f"line {number} is longer than {LONGEST_LINE} characters" for number in wide]


@pytest.mark.parametrize("stage", STAGES)
def test_a_main_only_launches_its_entry_point(stage: str) -> None:
    path = ROOT / "projects" / f"{stage}.py"
    assert set(imported(path)) == {"projects.running.launch.launch"} and len(path.read_text().splitlines()) <= 10


def test_a_newcomer_sees_the_entry_points_at_a_glance() -> None:
    assert {path.stem for path in (ROOT / "projects").glob("*.py")} == {*STAGES, "__init__"}


def test_importing_changes_no_global_setting() -> None:
    """No jax.config, no environment variable is set by a statement that runs on import."""
    assert faults([*SOURCES, *MAINS], set_on_import) == {}


def set_on_import(path: Path) -> list[str]:
    statements = [ast.unparse(node) for node in top_level(ast.parse(path.read_text()))]
    return [text for text in statements if "jax.config" in text or "environ" in text]


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run on import: not function bodies, imports, docstrings, nor ``if __name__ == ...``."""
    skipped = ast.FunctionDef | ast.Import | ast.ImportFrom
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.ClassDef):
            yield from (part for part in node.body if not isinstance(part, skipped))
        elif not isinstance(node, skipped) and not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)):
            yield node


def test_every_third_party_import_is_pinned_and_every_pin_is_used() -> None:
    files = [*SOURCES, *MAINS, *(ROOT / "tools").glob("*.py")]
    used = {name.split(".")[0] for path in files for name in imported(path)} - set(sys.stdlib_module_names)
    used -= {"drone_cbf", "projects", "pins", "tools"}
    packages = {
        "orbax": "orbax-checkpoint",
        "yaml": "pyyaml",
        "pydantic_core": "pydantic",
        "annotated_types": "pydantic",
    }
    packages |= {"mpl_toolkits": "matplotlib", "foxglove": "foxglove-sdk", "rerun": "rerun-sdk"}
    files = ("requirements.txt", *OPTIONAL)
    pinned = [line.split("==")[0].lower() for file in files for line in (ROOT / file).read_text().splitlines()]
    lines = [name for name in pinned if name and not name.startswith("#")]
    wanted = {packages.get(name, name.replace("_", "-")) for name in used}
    assert wanted - {"packaging"} <= set(lines)
    # JAX's compiled half is pinned with it, what jax.export and jax2onnx need with that.
    indirect = {"jaxlib", "flatbuffers", "onnx", "onnx-ir"}
    assert set(lines) - indirect <= wanted
