"""Names and values that are nearly right, at every depth of a file and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from projects.cli.arguments import check, parse
from projects.cli.stage_parameters import PipelineParameters, PretrainParameters
from projects.inputs.curriculum_files import load_curriculum, with_sizes
from projects.inputs.gate_files import load_gates

NAMED = "name: mine\n"
WHOLE = NAMED + "stages: [{name: a, steps: 2}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NAMED + "stages: [{name: a, stepz: 2}]", "stages.0.stepz is unknown; did you mean steps?"),
        (NAMED + "extend: default", "extend is unknown; did you mean extends?"),
        (WHOLE + "learnin: {}", "learnin is unknown; did you mean learning?"),
        (WHOLE + "learning: {weights: {distil: 1}}", "learning.weights.distil is unknown; did you mean distill?"),
        (WHOLE + "monitor: {evry: 1}", "monitor.evry is unknown; did you mean every?"),
        (WHOLE + "every_stage: {horizn: 1}", "stages.0.horizn is unknown; did you mean horizon?"),
        (WHOLE + "learning: {balance: sums}", "did you mean sum?"),
        (NAMED + "stages: [{name: a, steps: 2, weights: {distil: 1}}]", "did you mean distill?"),
        (
            WHOLE + "system: {filter.penalti: 1}",
            "filter.penalti is not a system setting .*did you mean filter.penalty?",
        ),
        (WHOLE + "pipeline: {rollout: 1}", "pipeline.rollout is unknown; did you mean rollouts?"),
        (WHOLE + "zzzz: 1", "zzzz is unknown; the names are name, "),
        (WHOLE + "1: 2", "1 is unknown; the names are name, "),
        (WHOLE + "name: other", "line 3: name is given twice"),
        (
            WHOLE + 'extends: "a\\0.yaml"',
            "extends: curriculum 'a.x00.yaml' holds a line break or a character that cannot be shown",
        ),
        ('name: "a\\nb"\nstages: [{name: a, steps: 2}]', "name 'a.nb' holds a line break"),
    ],
)
def test_a_wrong_name_in_a_curriculum_is_refused_with_the_nearest_right_one(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml.*{message.replace('?', '[?]')}") as caught:
        load_curriculum(str(file))
        with_sizes(PipelineParameters(curriculum=str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates: [{metrc: m, at_least: 1}]", "gates.0.metrc is unknown; did you mean metric[?]"),
        ("gate: []", "gate is unknown; did you mean gates[?]"),
        ("gates: [{metric: m, at_least: 1, at_least: 2}]", "at_least is given twice"),
        ("gates: [{metric: m, at_least: 1}]\nby_sensor: {lidr: []}", "by_sensor.lidr.*did you mean lidar[?]"),
    ],
)
def test_a_wrong_name_in_a_file_of_gates_is_refused_with_the_nearest_right_one(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml.*{message}"):
        load_gates(str(file))


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "no\nfile", "."])
def test_what_names_no_file_is_refused_on_one_line(name: str) -> None:
    for load in (load_gates, load_curriculum, lambda name: load_curriculum(f"{name}.yaml")):
        with pytest.raises(ConfigError) as caught:
            load(name)
        assert str(caught.value).isprintable() and " | " not in str(caught.value), "one cause, told once"


def test_a_wrong_name_in_a_recorded_system_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match="physics.lag_tme is unknown; did you mean lag_time[?]"):
        check(SystemConfig, {"physics": {"lag_tme": 0.1}})
    with pytest.raises(ConfigError, match="physic is unknown; did you mean physics[?]"):
        check(SystemConfig, {"physic": {}})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--strata=\ud800:1",
            r"strata = \\ud800:1 holds a line break or a character that cannot be shown; leave it out",
        ),
        (
            "--strata=\u202e:1",
            r"strata = \\u202e:1 holds a line break or a character that cannot be shown; leave it out",
        ),
        (
            "--strata=\u0e5c:1",
            r"strata = \\u0e5c:1 holds a line break or a character that cannot be shown; leave it out",
        ),
        ("--steps=1\n2", r"steps = 1\\n2 holds a line break"),
        ("--parent_run=\0", r"parent_run = \\x00 holds a line break"),
        ("--a\nb=1", r"a\\nb = 1 holds a line break"),
        ("a\nb", "'a b' is not a parameter"),
        (
            "--scenes=forst",
            "scenes = forst is not one of .*, tunnel, formation; did you mean forest[?]; set another",
        ),
        ('--scenes="forest', 'scenes = "forest cannot be read as values separated by commas; list the parameters'),
        ("--temperatures=[1", r"temperatures = \[1 cannot be read as values separated by commas"),
        ("--scenes=" + "[" * 3000, r"scenes = \[{80} cannot be read"),
    ],
)
def test_a_value_of_the_command_line_that_is_no_text_or_no_list_is_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse("pretrain_cbf", PretrainParameters, [*(["--parent_run=x"] if "parent_run" not in word else []), word])
    assert str(caught.value).isprintable()
