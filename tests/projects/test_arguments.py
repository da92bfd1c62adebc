from __future__ import annotations

from typing import Any

import pytest

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from projects.cli.arguments import build_system, names, parse
from projects.cli.help import help_text
from projects.cli.stage_parameters import EfficiencyParameters, EvaluateParameters, PipelineParameters, SafetyParameters
from projects.running.stage_runner import KEPT_FROM_PARENT

INHERITED = SystemConfig().model_dump(mode="json")


def test_both_spellings_of_a_flag_and_negative_numbers_are_read() -> None:
    given = parse("efficiency", EfficiencyParameters, ["--steps=7", "--seed", "3", "--scenes", "forest,fixed_ring"])
    assert (given.parameters.steps, given.parameters.seed) == (7, 3)
    assert given.parameters.scenes == ("forest", "fixed_ring")
    with pytest.raises(ConfigError, match="seed = -1 is out of range"):
        parse("efficiency", EfficiencyParameters, ["--seed", "-1"])


def test_the_environment_is_no_source_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "9")
    monkeypatch.setenv("PHYSICS__LAG_TIME", "0.3")
    given = parse("efficiency", EfficiencyParameters, [])
    assert given.parameters == EfficiencyParameters() and given.system == {}


def test_a_dotted_flag_changes_one_field_of_the_defaults() -> None:
    given = parse("efficiency", EfficiencyParameters, ["--physics.lag_time", "0.1", "--physics.max_acceleration=9,9,8"])
    system = build_system(None, given.system)
    assert system.physics.lag_time == 0.1 and system.physics.max_acceleration == (9.0, 9.0, 8.0)
    assert system.physics.delay == SystemConfig().physics.delay and system.scene == SystemConfig().scene
    assert given.system_text == {"physics.lag_time": "0.1", "physics.max_acceleration": "9,9,8"}


def test_given_flags_change_the_parents_system_and_nothing_else() -> None:
    inherited = {**INHERITED, "scene": {**INHERITED["scene"], "obstacles": 64}}
    system = build_system(inherited, {"scene": {"cloud_obstacles": "40"}}, KEPT_FROM_PARENT)
    assert (system.scene.obstacles, system.scene.cloud_obstacles) == (64, 40), "40 alone exceeds the default of 28"
    assert system.model_copy(update={"scene": SystemConfig().scene}) == SystemConfig()


@pytest.mark.parametrize("name", KEPT_FROM_PARENT)
def test_what_shapes_the_parents_networks_cannot_change(name: str) -> None:
    group, field = name.split(".")
    inherited = {**INHERITED, "sensor": {**INHERITED["sensor"], "kind": "lidar"}}
    other = {"policy.kind": "steered", "barrier.base": "braking"}.get(name, "5")
    with pytest.raises(ConfigError, match=f"{name} = {other} differs from the parent run's .* leave it out"):
        build_system(inherited, {group: {field: other}}, KEPT_FROM_PARENT)
    build_system(inherited, {group: {field: str(inherited[group][field])}}, KEPT_FROM_PARENT)


BAD = [
    (
        ["--steps=abc"],
        "steps = abc is not a whole number (allowed: >= 1, <= 100000); set another value with -P steps=<value>",
    ),
    (["--steps=0"], "steps = 0 is out of range (allowed: >= 1, <= 100000); set another value with -P steps=<value>"),
    (["--steps=1.5"], "steps = 1.5 is not a whole number"),
    (["--learning_rate=nan"], "learning_rate = nan is "),
    (["--learning_rate=fast"], "learning_rate = fast is not a number (allowed: > 0, <= 1)"),
    (["--scenes=desert"], "scenes = desert is not one of fixed_ring, random_cloud, forest, boxes,"),
    (["--scenes="], "scenes = "),
    (["--step=3"], "unknown parameter 'step'; did you mean steps?"),
    (["--lag_time=1"], "unknown parameter 'lag_time'; did you mean physics.lag_time?"),
    (["--physics.lagtime=1"], "unknown parameter 'physics.lagtime'; did you mean physics.lag_time?"),
    (["--wind=1"], "unknown parameter 'wind'; list the parameters with --help"),
    (
        ["--physics=1"],
        "'physics' is a group of parameters; set one of physics.model, physics.airframe, physics.belief",
    ),
    (["--steps"], "steps has no value; write --steps=<value>"),
    (["steps=3"], "'steps=3' is not a parameter; write --name=value"),
    (["--steps=3", "--steps=4"], "steps is given twice; keep one of 3 and 4"),
    (["--physics.lag_time=7"], "physics.lag_time = 7 is out of range (allowed: >= 0, <= 0.5)"),
    (["--physics.max_acceleration=1,2"], "physics.max_acceleration has the wrong number of entries (3 expected)"),
    (["--physics.max_acceleration=1,-2,3"], "physics.max_acceleration = -2 is out of range (allowed: > 0, <= 1000)"),
    (["--barrier.kind=magic"], "barrier.kind = magic is not one of braking, distance_hocbf;"),
    (["--barrier.braking=9"], "barrier.braking = 9.0 exceeds the smallest physics.max_acceleration"),
    (["--steps=0", "--batch=0", "--seed=-1", "--horizon=0"], "and 1 more"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_is_one_line_with_field_value_range_and_remedy(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_system(None, parse("efficiency", EfficiencyParameters, arguments).system)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parameters", [SafetyParameters, EvaluateParameters])
def test_a_missing_parent_run_says_what_is_wanted(parameters: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"parent_run is missing \(ID of a finished .*give it with -P parent_run=<value>"
    ):
        parse("safety", parameters, [])


def test_lists_are_checked_entry_by_entry() -> None:
    given = parse("evaluate", EvaluateParameters, ["--parent_run=x", "--noise=0,0.1"]).parameters
    assert given.noise == (0.0, 0.1)
    with pytest.raises(ConfigError, match="noise = 7 is out of range"):
        parse("evaluate", EvaluateParameters, ["--parent_run=x", "--noise=0,7"])


def test_help_names_every_parameter_with_its_default_and_an_example() -> None:
    text = help_text("efficiency", EfficiencyParameters)
    for name in names(EfficiencyParameters):
        assert f"\n  {name} " in text
    text = " ".join(text.split())
    rate = EfficiencyParameters.model_fields["learning_rate"].default
    assert f"[default {rate:g}; > 0, <= 1]" in text and "choices: braking, distance_hocbf" in text
    assert "mlflow run . -e efficiency -P" in text
    assert "curriculum" in help_text("pipeline", PipelineParameters)
