"""With which share of the neural barrier suite and pipeline evaluate what they train."""

from __future__ import annotations

import pytest

from drone_cbf.config import Section
from drone_cbf.errors import ConfigError
from projects.cli.arguments import parse
from projects.cli.stage_parameters import PipelineParameters, SuiteParameters
from projects.inputs.curriculum_files import with_sizes
from projects.workflows.pipeline import stage_parameters
from projects.workflows.suite_tasks import suite_tasks

LAST = {"default": "1.0", "hybrid": "0.5", "distance_hocbf": "0.0"}
"""Curriculum -> blend of its last stage."""


def suite_blends(**more: object) -> list[str]:
    asked = {"curricula": tuple(LAST), "seeds": (0,), "parent_run": "x"}
    tasks = suite_tasks(SuiteParameters.model_validate({**asked, **more}), {})
    return [task.parameters["blend"] for task in tasks if task.entry.name == "evaluate"]


def pipeline_blends(**more: object) -> list[str]:
    asked = [PipelineParameters.model_validate({"curriculum": name, **more}) for name in LAST]
    return [stage_parameters(with_sizes(parameters), {})["evaluate"]["blend"] for parameters in asked]


@pytest.mark.parametrize("blends", [suite_blends, pipeline_blends])
def test_the_last_blend_of_each_curriculum_is_evaluated_unless_told_otherwise(blends) -> None:
    assert blends() == blends(blend="last") == list(LAST.values())
    assert blends(blend="0.25") == ["0.25"] * len(LAST)


@pytest.mark.parametrize(("entry", "parameters"), [("suite", SuiteParameters), ("pipeline", PipelineParameters)])
@pytest.mark.parametrize("wrong", ["2", "-0.1", "nan", "first"])
def test_a_blend_that_is_no_share_is_refused_with_what_is_allowed(
    entry: str, parameters: type[Section], wrong: str
) -> None:
    with pytest.raises(ConfigError, match=f"blend = {wrong} is neither last nor a number from 0 to 1; set another"):
        parse(entry, parameters, [f"--blend={wrong}"])
