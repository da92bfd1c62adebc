from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from projects.inputs.curriculum_files import available, load_curriculum


def test_the_shipped_curricula_are_valid_and_carry_their_file_names() -> None:
    assert {"default", "analytic_baseline", "hybrid", "fast"} <= set(available())
    for name in available():
        assert load_curriculum(name).name == name


def test_the_named_curricula_are_what_their_names_say() -> None:
    blends = {name: [stage.blend for stage in load_curriculum(name).stages] for name in available()}
    assert (blends["default"][0], blends["default"][-1]) == (0.0, 1.0)
    assert set(blends["analytic_baseline"]) == {0.0} and blends["hybrid"][-1] == 0.5
    assert [stage.noise for stage in load_curriculum("default").stages][-1] == 0.05


def test_a_path_to_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nstages: [{name: a, steps: 5}]\n")
    assert load_curriculum(str(file)).total_steps == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read.*name one of aggressive_noise, agile, analytic_baseline"),
        ("a: [", "is not valid YAML"),
        ("name: x\nstages: [{name: a, steps: 0}]", "stages.0.steps = 0"),
        ("name: x\nstages: [{name: a, steps: 5, nois: 0.1}]", "stages.0.nois"),
        ("- a", "expected a mapping"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_curriculum(str(file))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(
        ConfigError, match="curriculum 'defualt' does not exist; did you mean default\\? Else name one of aggressive"
    ):
        load_curriculum("defualt")


def test_the_ladder_differs_in_the_model_of_the_drone_alone() -> None:
    rungs = [load_curriculum(f"ladder/{model}") for model in ("point_mass", "attitude", "quadrotor")]
    assert [rung.system for rung in rungs] == [{"physics.model": rung.name.removeprefix("ladder/")} for rung in rungs]
    assert all(rung.stages == load_curriculum("ablations/gates_open").stages for rung in rungs)


@pytest.mark.parametrize("name", ["agile", "racing"])
def test_fast_curricula_see_as_far_as_they_need_to_stop(name: str) -> None:
    """At the largest speed: reaction, braking distance and safe radius within the range, look-ahead v / (2 a)."""
    groups: dict[str, dict[str, Any]] = {}
    for setting, value in load_curriculum(name).trained_with.items():
        group, field = setting.split(".")
        groups.setdefault(group, {})[field] = value
    system = SystemConfig.model_validate(groups)
    assert system.seen_speed >= system.objective.max_speed == system.cruise_speed
    expected = system.objective.max_speed / (2.0 * system.barrier.braking)
    assert system.sensor.lookahead == pytest.approx(expected, rel=0.05)
