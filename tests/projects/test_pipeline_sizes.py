"""How large a pipeline is: as given, else as its curriculum says, else as by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from drone_cbf.errors import ConfigError
from projects.cli.arguments import parse
from projects.cli.stage_parameters import PipelineParameters
from projects.inputs.curriculum_files import load_curriculum, with_sizes
from projects.workflows.pipeline import stage_parameters

CURRICULUM = "name: mine\nstages: [{name: a, steps: 5}]\n"


def planned(*arguments: str) -> dict[str, dict[str, str]]:
    return stage_parameters(with_sizes(parse("pipeline", PipelineParameters, arguments).parameters), {})


def written(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(CURRICULUM + text)
    return f"--curriculum={folder}/mine.yaml"


EMPTY = ("--efficiency_steps=", "--efficiency_learning_rate=", "--batch=", "--noise=", "--scenarios=")


@pytest.mark.parametrize("arguments", [(), EMPTY])
def test_the_default_pipeline_gives_its_children_what_it_always_gave_them(arguments: tuple[str, ...]) -> None:
    assert planned(*arguments) == {
        "efficiency": {"seed": "0", "batch": "64", "horizon": "200", "report_flights": "256", "steps": "180"},
        "pretrain_cbf": {"seed": "0", "horizon": "200", "report_flights": "256", "steps": "2000"},
        "safety": {"seed": "0", "batch": "64", "report_flights": "256", "curriculum": "default"},
        "evaluate": {"rollouts": "512", "horizon": "200", "blend": "1.0"},
    }


def test_what_is_left_out_is_the_curriculums_and_what_is_given_wins(tmp_path: Path) -> None:
    file = written(
        tmp_path, "pipeline: {efficiency_steps: 7, unfiltered_rollouts: 8, goals: [random], noise: [0, 0.05]}"
    )
    stages = planned(file, "--unfiltered_rollouts=9", "--pretrain_steps=11")
    assert (stages["efficiency"]["steps"], stages["pretrain_cbf"]["steps"]) == ("7", "11")
    evaluate = stages["evaluate"]
    assert (evaluate["unfiltered_rollouts"], evaluate["goals"], evaluate["noise"]) == ("9", "random", "0.0,0.05")
    assert evaluate["rollouts"] == "512" and "scenarios" not in evaluate
    assert planned(file, "--efficiency_steps=180")["efficiency"]["steps"] == "180", "a default that is asked for"


def test_flights_are_evaluated_over_the_horizon_of_training_or_over_their_own(tmp_path: Path) -> None:
    def horizons(*arguments: str) -> list[str]:
        return [stage["horizon"] for stage in planned(*arguments).values() if "horizon" in stage]

    assert horizons("--horizon=30") == ["30", "30", "30"]
    file = written(tmp_path, "pipeline: {evaluation_horizon: 300}")
    assert horizons(file) == ["200", "200", "300"]
    assert horizons(file, "--evaluation_horizon=250", "--horizon=40") == ["40", "40", "250"]


def test_the_learning_rate_of_the_first_stage_comes_from_the_curriculum_and_reaches_no_other(tmp_path: Path) -> None:
    file = written(tmp_path, "pipeline: {efficiency_learning_rate: 9.0e-4, batch: 32}")
    stages = planned(file)
    assert (stages["efficiency"]["learning_rate"], stages["efficiency"]["batch"]) == ("0.0009", "32")
    assert all("learning_rate" not in stages[name] for name in ("pretrain_cbf", "safety", "evaluate"))
    assert planned(file, "--efficiency_learning_rate=0.002")["efficiency"]["learning_rate"] == "0.002"


def test_the_sizes_are_inherited_with_the_rest_and_are_no_part_of_what_is_trained(tmp_path: Path) -> None:
    written(tmp_path, "pipeline: {rollouts: 4}")
    (tmp_path / "more.yaml").write_text("name: more\nextends: mine.yaml\npipeline: {batch: 3}\n")
    stages = planned(f"--curriculum={tmp_path}/more.yaml")
    assert (stages["evaluate"]["rollouts"], stages["safety"]["batch"]) == ("4", "3")
    assert "pipeline" not in load_curriculum(f"{tmp_path}/more.yaml").model_dump()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{rolouts: 4}", "did you mean rollouts?"),
        ("{seed: 4}", "seed is unknown"),
        ("7", "give some of efficiency_steps, efficiency_learning_rate"),
        ("{rollouts: 0}", "rollouts = 0 is out of range"),
        ("{efficiency_learning_rate: 0}", "efficiency_learning_rate = 0 is out of range"),
        ("{noise: [2]}", "noise = 2 is out of range"),
    ],
)
def test_a_wrong_section_is_refused_with_the_file_and_what_is_allowed(
    tmp_path: Path, section: str, message: str
) -> None:
    with pytest.raises(ConfigError, match="mine.yaml: pipeline") as error:
        planned(written(tmp_path, f"pipeline: {section}"))
    assert message in str(error.value)


def test_the_try_out_flies_no_more_without_the_filter_than_with_it() -> None:
    fast = with_sizes(PipelineParameters(curriculum="fast"))
    assert fast.unfiltered_rollouts <= fast.rollouts and fast.efficiency_steps < 180
