from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml

from drone_cbf.config import Section
from projects.running.entry_points import ENTRY_POINTS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
MODELS: dict[str, type[Section]] = {name: entry.parameters for name, entry in ENTRY_POINTS.items()}
MODELS["main"] = ENTRY_POINTS["pipeline"].parameters
TYPES = {int: "int", float: "float", str: "string"}


def declared(model: type[Section]) -> dict[str, dict[str, Any]]:
    """What MLproject must say about ``model``."""
    wanted = {}
    for name, field in model.model_fields.items():
        kind = get_origin(field.annotation) or field.annotation
        wanted[name] = {"type": TYPES.get(kind, "string")}
        if not field.is_required():
            wanted[name]["default"] = text(field.default)
    return wanted


def text(value: Any) -> Any:
    if isinstance(value, tuple):
        return ",".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return "" if value is None else value


def test_the_entry_points_are_those_with_parameters_here() -> None:
    assert set(PROJECT["entry_points"]) == set(MODELS)
    assert PROJECT["name"] == "drone_cbf" and (ROOT / PROJECT["conda_env"]).is_file()


@pytest.mark.parametrize("entry", MODELS)
def test_names_types_defaults_and_requiredness_in_mlproject_are_those_of_the_parser(entry: str) -> None:
    assert PROJECT["entry_points"][entry]["parameters"] == declared(MODELS[entry])


@pytest.mark.parametrize("entry", MODELS)
def test_the_command_hands_every_parameter_to_the_module_that_parses_it(entry: str) -> None:
    command = PROJECT["entry_points"][entry]["command"]
    module = "pipeline" if entry == "main" else entry
    assert command.startswith(f"python -m projects.{module} ")
    assert set(re.findall(r"--(\w+)=\{\1\}", command)) == set(MODELS[entry].model_fields)


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_each_main_starts_the_entry_point_of_its_name(entry: str) -> None:
    assert f'launch("{entry}")' in (ROOT / "projects" / f"{entry}.py").read_text()
    assert callable(importlib.import_module(ENTRY_POINTS[entry].work).work)
    assert bool(ENTRY_POINTS[entry].parents) == ("parent_run" in MODELS[entry].model_fields)


def test_an_entry_point_starts_in_pythons_safe_mode_as_well() -> None:
    """There Python leaves the working directory out of the module path; tools/setup.sh puts the project on it."""
    command = [sys.executable, "-m", "projects.gate", "--help"]
    settings = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        command, cwd=ROOT, env={**settings, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0 and answer.stdout.startswith("gate: "), answer.stderr


def test_help_answers_without_importing_what_is_slow() -> None:
    script = f"""
import sys
from projects.running.launch import launch
for entry in {list(ENTRY_POINTS)}:
    print("---")
    launch(entry, ["--help"])
print("---", *sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    _, *pages, modules = answer.stdout.split("---")
    for entry, page in zip(ENTRY_POINTS, pages, strict=True):
        assert page.lstrip().startswith(f"{entry}: ")
    assert not {"jax", "mlflow", "matplotlib", "pandas"} & set(modules.split())
