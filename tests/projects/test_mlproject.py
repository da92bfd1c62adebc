from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml

from drone_cbf.config import Section
from projects import parameters, reading_parameters

ROOT = Path(__file__).resolve().parents[2]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
MODELS: dict[str, type[Section]] = {
    "efficiency": parameters.EfficiencyParameters,
    "pretrain_cbf": parameters.PretrainParameters,
    "safety": parameters.SafetyParameters,
    "evaluate": parameters.EvaluateParameters,
    "pipeline": parameters.PipelineParameters,
    "register": parameters.RegisterParameters,
    "gate": parameters.GateParameters,
    "reproduce": parameters.ReproduceParameters,
    "main": parameters.PipelineParameters,
    "suite": parameters.SuiteParameters,
    "compare": reading_parameters.CompareParameters,
    "report": reading_parameters.ReportParameters,
    "results": reading_parameters.ResultsParameters,
}
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
    return value


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


@pytest.mark.parametrize("entry", [name for name in MODELS if name != "main"])
def test_each_main_parses_with_its_own_parameters(entry: str) -> None:
    main = importlib.import_module(f"projects.{entry}")
    assert main.ENTRY.name == entry and main.ENTRY.parameters is MODELS[entry]
    assert bool(main.ENTRY.parents) == ("parent_run" in MODELS[entry].model_fields)
