"""Curricula that extend one another, change the system, or have single levels set for a run."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.errors import ConfigError
from drone_cbf.tracking.runs.lineage import load_config
from drone_cbf.training.curriculum.schema import Curriculum
from projects.cli.arguments import KEPT_FROM_PARENT
from projects.cli.stage_parameters import SafetyParameters
from projects.inputs.curriculum_files import ABLATIONS, available, bases_of, load_curriculum
from projects.inputs.curriculum_levels import LEVELS, with_levels
from projects.inputs.digests import config_digest
from projects.running.entry_points import ENTRY_POINTS, EntryPoint
from projects.running.stage_runner import Outcome, Stage, run_stage
from projects.stages import safety
from tests.projects.recorded import record
from tests.projects.test_running import last_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "curricula.md"
BASE = """
name: base
description: of all
system: {filter.penalty: 10.0}
learning: {ema: 0.5, weights: {distill: 0.1, cbf_safe: 1.0}}
stages: [{name: a, steps: 2, noise: 0.1}, {name: b, steps: 3, horizon: 50}]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def written(folder: Path, text: str, name: str = "mine") -> str:
    (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{name}.yaml")


def test_what_extends_another_changes_single_fields_and_keeps_the_rest(base: Path) -> None:
    text = "name: mine\nextends: base.yaml\nsystem: {barrier.temperature: 0.1}\nlearning: {weights: {distill: 0.7}}\n"
    found, below = load_curriculum(written(base, text)), load_curriculum(str(base / "base.yaml"))
    assert found.name == "mine" and found.description == "of all" and found.stages == below.stages
    assert found.system == {"filter.penalty": 10.0, "barrier.temperature": 0.1} and found.learning.ema == 0.5
    assert (found.learning.weights.distill, found.learning.weights.cbf_safe) == (0.7, 1.0)


def test_stages_are_replaced_as_a_whole_and_every_stage_changes_each_of_them(base: Path) -> None:
    own = load_curriculum(written(base, "name: mine\nextends: base.yaml\nstages: [{name: c, steps: 9}]\n"))
    assert [stage.name for stage in own.stages] == ["c"]
    text = "name: mine\nextends: base.yaml\nevery_stage: {horizon: 60}\n"
    every = load_curriculum(written(base, text))
    assert [(s.name, s.steps, s.noise, s.horizon) for s in every.stages] == [("a", 2, 0.1, 60), ("b", 3, 0.0, 60)]
    again = written(base, "name: again\nextends: mine.yaml\nevery_stage: {noise: 0.3}\n", "again")
    assert [(s.noise, s.horizon) for s in load_curriculum(again).stages] == [(0.3, 60), (0.3, 60)], "over two files"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: mine\nextends: mine.yaml\n",
            "extends = mine.yaml leads back to itself .*mine.yaml -> .*; break the circle",
        ),
        ("name: mine\nextends: other.yaml\n", "extends = mine.yaml leads back to itself"),
        (
            "name: mine\nextends: defualt\n",
            "mine.yaml: extends: curriculum 'defualt' does not exist; did you mean default",
        ),
        ("name: mine\nextends: gone.yaml\n", "gone.yaml cannot be read"),
        ("name: mine\nextends: [default]\n", r"extends = \['default'\] is not a name; write extends: default"),
        ("extends: default\n", "name is missing; what extends default needs a name of its own"),
        ("name: mine\nextends: default\nevery_stage: [1]\n", r"every_stage = \[1\] is not a mapping"),
        ("name: mine\nextends: default\nevery_stage: {horizons: 60}\n", "stages.0.horizons is unknown"),
        ("name: mine\nextends: default\nsystem: {filter.penalti: 1}\n", "filter.penalti is not a system setting"),
        (
            "name: mine\nextends: default\nsystem: {filters.penalty: 1}\n",
            "filters.penalty is not a system setting .*the groups are",
        ),
        ("name: mine\nextends: default\nsystem: {penalty: 1}\n", "penalty is not a system setting"),
        (
            "name: mine\nextends: default\nsystem: {filter.penalty: -1}\n",
            "filter.penalty = -1: Input should be greater",
        ),
        ("name: mine\nextends: default\nsystem: {barrier.kind: round}\n", "barrier.kind = 'round': Input should be"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, "name: other\nextends: mine.yaml\n", "other")
    with pytest.raises(ConfigError, match=message) as caught:
        load_curriculum(written(tmp_path, text))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", KEPT_FROM_PARENT)
def test_settings_that_shape_networks_are_refused_with_the_place_where_they_belong(tmp_path: Path, name: str) -> None:
    value = {"policy.kind": "steered", "barrier.base": "braking"}.get(name, 16)
    file = written(tmp_path, f"name: mine\nextends: default\nsystem: {{{name}: {value}}}\n")
    with pytest.raises(ConfigError, match=rf"system: {name} shapes networks .*-e efficiency -P {name}=<value>"):
        load_curriculum(file)


def test_every_shipped_curriculum_carries_its_name_and_is_listed_in_the_documentation() -> None:
    page = PAGE.read_text()
    for name in available():
        curriculum = load_curriculum(name)
        assert curriculum.name == name and curriculum.description
        assert f"| `{name}` | {curriculum.description} |" in page, f"docs/curricula.md lacks {name}, or says otherwise"
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("|") == 3}
    assert listed == set(available()), "docs/curricula.md lists what is not shipped"


def test_a_shipped_curriculum_that_asks_for_something_is_gated_and_watched_often_enough_to_be_rolled_back() -> None:
    asking = [load_curriculum(name) for name in available() if "/" not in name]
    asking = [one for one in asking if any(stage.success_threshold for stage in one.stages)]
    assert {"default", "hybrid", "analytic_baseline", "aggressive_noise", *(f"curriculum_{x}" for x in "abcdef")} <= {
        one.name for one in asking
    }
    for curriculum in asking:
        monitor = curriculum.monitor
        assert monitor.gate == "fail" and monitor.every
        for stage in curriculum.stages:
            measured = -(-stage.steps // monitor.every)  # within the stage and at its end
            assert measured > monitor.patience, f"{curriculum.name}, {stage.name}: patience cannot be exceeded"


def test_ablations_ask_for_nothing_so_that_all_are_trained_for_as_many_steps() -> None:
    for name in available():
        if "/" in name and name != "ablations/distance_linear":
            stages = load_curriculum(name).stages
            assert not any(stage.success_threshold for stage in stages)
            assert [stage.steps for stage in stages] == [stage.steps for stage in load_curriculum("default").stages]


def test_what_a_curriculum_extends_is_told_from_the_nearest_on() -> None:
    assert bases_of("ablations/ema") == ["ablations/gates_open", "default"] and bases_of("default") == []
    assert bases_of("ablations/distance_linear")[0] == "distance_hocbf"


def test_every_shipped_system_fits_the_default_system() -> None:
    for name in available():
        system = ENTRY_POINTS["safety"].system_of(SafetyParameters(parent_run="x", curriculum=name), None, {})
        fields = {tuple(field.split(".")): value for field, value in load_curriculum(name).system.items()}
        assert all(getattr(getattr(system, group), field) == value for (group, field), value in fields.items())


def test_the_originals_curricula_have_the_levels_of_its_log() -> None:
    noise = {"a": (0, 0.02, 0.05), "b": (0, 0.02, 0.05), "c": (0, 0.01, 0.02, 0.05), "d": (0, 0.01, 0.03, 0.05)}
    blend = {"a": (0, 0.4, 0.8), "b": (0, 0.5, 1.0), "c": (0, 0.25, 0.5, 0.75), "d": (0, 0.3, 0.6, 0.9),
             "e": (0, 0.2, 0.4, 0.6), "f": (0, 0.3, 0.6, 0.8, 1.0)}  # fmt: skip
    for letter, levels in blend.items():
        stages = load_curriculum(f"curriculum_{letter}").stages
        assert tuple(stage.blend for stage in stages) == levels
        assert letter not in noise or tuple(stage.noise for stage in stages) == noise[letter]
        assert [stage.augment > 0.0 for stage in stages] == [False] * (len(levels) - 1) + [True]


def test_the_presets_are_what_their_names_say() -> None:
    found = {name: load_curriculum(name) for name in available()}
    gcbf = found["gcbf_only"].learning.weights
    assert gcbf.cbf_value == gcbf.cbf_gradient == 0.0 and min(gcbf.cbf_safe, gcbf.cbf_unsafe, gcbf.cbf_hdot) > 0.0
    assert not found["diffphys_only"].learning.filtered
    light, heavy = found["distill_light"].learning, found["distill_heavy"].learning
    assert 0.0 < light.weights.distill < heavy.weights.distill and light.freeze_steps < heavy.freeze_steps
    assert found["stop_gradient"].system["filter.gradient"] == "identity"
    original = found["distance_hocbf"]
    assert {stage.blend for stage in original.stages} == {0.0}
    assert original.system["filter.slack_penalty"] == "quadratic" and original.system["sensor.lookahead"] == 0.0
    cured = found["ablations/distance_braking"]
    differ = {name for name in cured.system if cured.system[name] != original.system.get(name)}
    tightening = {"barrier.speed_tightening", "barrier.noise_tightening"}  # of which the distance barrier has none
    assert differ == {"barrier.kind", "filter.slack_penalty", "filter.penalty"} | tightening
    assert all(cured.system[name] == 0.0 for name in tightening) and cured.system["barrier.kind"] == "braking"
    assert cured.stages == original.stages and cured.learning == original.learning
    grid = {(c.system["physics.gradient_decay"], c.stages[0].horizon) for n, c in found.items() if "decay_" in n}
    assert grid == {(decay, horizon) for decay in (0.0, 1.5, 2.5, 5.0) for horizon in (60, 180, 400)}
    assert all(c.total_steps == found["default"].total_steps for n, c in found.items() if n.startswith(ABLATIONS))


@pytest.mark.parametrize("name", LEVELS)
def test_levels_replace_one_field_of_each_stage_and_mark_the_name(name: str) -> None:
    values = (4, 5, 6) if name == "stage_steps" else (0.1, 0.2, 0.3)
    plain = load_curriculum("default")
    changed = with_levels(plain, {name: values})
    field = LEVELS[name]
    assert tuple(getattr(stage, field) for stage in changed.stages) == values
    same = [stage.model_dump(exclude={field}) for stage in plain.stages]
    assert [stage.model_dump(exclude={field}) for stage in changed.stages] == same
    assert changed.name.startswith("default*") and len(changed.name) == len("default*") + 6
    assert with_levels(plain, {name: values[:1]}).stages == with_levels(plain, {name: values[:1] * 3}).stages


def test_levels_that_change_nothing_leave_the_name_and_others_have_names_of_their_own() -> None:
    plain = load_curriculum("default")
    assert with_levels(plain, {"noise_levels": (0.0, 0.02, 0.05), "blend_levels": ()}) == plain
    first, second = (with_levels(plain, {"noise_levels": (level,)}) for level in (0.1, 0.2))
    assert first.name != second.name
    assert with_levels(first, {"noise_levels": (0.1,)}) == first, "repeated from its stored curriculum"
    long = plain.model_copy(update={"name": "x" * 60})
    marked = with_levels(long, {"noise_levels": (0.1,)})
    assert Curriculum.model_validate(marked.model_dump()) == marked


def test_too_few_levels_say_how_many_there_must_be() -> None:
    told = r"noise_levels = 0,0.1 has 2 values, and curriculum default has 3 stages \(analytic, mixed, neural\); give 3"
    with pytest.raises(ConfigError, match=told):
        with_levels(load_curriculum("default"), {"noise_levels": (0.0, 0.1)})


def test_digests_tell_levels_and_settings_apart_and_not_their_spelling() -> None:
    def digest(**given: object) -> str:
        parameters = SafetyParameters.model_validate({"parent_run": "x", **given})
        return config_digest("safety", parameters, ENTRY_POINTS["safety"].system_of(parameters, None, {}))

    plain = digest()
    assert digest(noise_levels=(0.0, 0.02, 0.05)) == plain, "the levels that it has anyway"
    others = [digest(noise_levels=(0.1,)), digest(stage_steps=(5,)), digest(curriculum=f"{ABLATIONS}lookahead_off")]
    assert len({plain, *others}) == 4


def test_the_task_gradient_of_a_curriculum_counts_unless_the_command_line_says_otherwise() -> None:
    curriculum = load_curriculum(f"{ABLATIONS}task_gradient_0_1")
    plain = SafetyParameters(parent_run="x")
    assert safety.settings_of(plain, curriculum).barrier_task_gradient == 0.1
    assert safety.settings_of(plain, load_curriculum("default")).barrier_task_gradient == 0.0
    other = plain.model_copy(update={"barrier_task_gradient": 0.5})
    assert safety.settings_of(other, load_curriculum("default")).barrier_task_gradient == 0.5
    with pytest.raises(ConfigError, match="barrier_task_gradient = 0.5 differs from the 0.1 of curriculum"):
        safety.settings_of(other, curriculum)


def nothing(stage: Stage) -> Outcome:
    """Stands for the work of a stage: its settings are there already."""
    if stage.run.stage == "safety":
        stage.run.log_text(safety.curriculum_in_force(stage).model_dump_json(), "curriculum.json")
    return Outcome("")


def started(experiment: str, entry: EntryPoint, parent: str, *arguments: str) -> Run:
    assert run_stage(entry, nothing, [f"--parent_run={parent}", *arguments]) == 0
    return last_run(experiment)


@pytest.fixture
def parent(experiment: str) -> str:
    system = SystemConfig.model_validate({"physics": {"lag_time": 0.1}, "filter": {"penalty": 7.0}})
    run_id = record(experiment, "pretrain_cbf", {"seed": 0}, system=system)
    MlflowClient().set_terminated(run_id)
    return run_id


def test_settings_of_a_curriculum_act_between_the_parents_and_the_command_line_and_are_inherited(
    experiment: str, parent: str
) -> None:
    asked = ("--curriculum=distance_hocbf", "--sensor.lookahead=0.3")
    run = started(experiment, ENTRY_POINTS["safety"], parent, *asked)
    system = load_config(run.info.run_id)["system"]
    assert system["physics"]["lag_time"] == 0.1, "the parent's"
    assert (system["barrier"]["kind"], system["filter"]["penalty"]) == ("distance_hocbf", 300.0), "the curriculum's"
    assert system["sensor"]["lookahead"] == 0.3, "the command line's"
    assert run.data.params["filter.slack_penalty"] == "quadratic"
    measured = started(experiment, ENTRY_POINTS["evaluate"], run.info.run_id, "--blend=0")
    assert load_config(measured.info.run_id)["system"] == system


def test_levels_are_recorded_in_the_runs_curriculum_and_its_tag(experiment: str, parent: str) -> None:
    given = ("--curriculum=fast", "--blend_levels=0.5", "--stage_steps=1,2")
    run = started(experiment, ENTRY_POINTS["safety"], parent, *given)
    stored = yaml.safe_load(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/curriculum.json"))
    assert [(stage["blend"], stage["steps"]) for stage in stored["stages"]] == [(0.5, 1), (0.5, 2)]
    assert stored["name"].startswith("fast*")
    assert (run.data.params["blend_levels"], run.data.params["stage_steps"]) == ("0.5", "1,2")


def test_bad_levels_and_settings_fail_the_run_in_one_line(
    experiment: str, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = written(tmp_path, "name: wide\nextends: fast\nsystem: {scene.cloud_obstacles: 40}\n")
    for arguments, message in {
        ("--curriculum=fast", "--noise_levels=0,0.1,0.2"): "= 0,0.1,0.2 has 3 values, and curriculum fast has 2",
        ("--noise_levels=2",): "noise_levels = 2 is out of range (allowed: >= 0, <= 1)",
        ("--stage_steps=0",): "stage_steps = 0 is out of range",
        (f"--curriculum={wide}",): "cloud_obstacles = 40 exceeds obstacles = 28",
    }.items():
        assert run_stage(ENTRY_POINTS["safety"], nothing, [f"--parent_run={parent}", *arguments]) == 1
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") == 1
