"""A setting that is added later: runs recorded before it stay recognised and comparable, runs that use it differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.config import PhysicsConfig, SceneConfig, SystemConfig
from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.sections import Neutral, Section
from drone_cbf.tracking.checkpoints import certificates
from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.queries import evidence
from drone_cbf.tracking.queries.evidence import CONDITIONS, LATER_CONDITIONS, conditions
from drone_cbf.tracking.registry.judgement import find_judged
from drone_cbf.training.curriculum.schema import Curriculum, Stage
from projects.cli.stage_parameters import SafetyParameters
from projects.inputs import digests
from projects.inputs.curriculum_files import load_curriculum
from projects.inputs.digests import config_digest
from projects.running.entry_points import ENTRY_POINTS
from projects.workflows import suite_tasks
from tests.projects.test_gate import register
from tests.projects.trained import evaluate_run

RECORDED = yaml.safe_load((Path(__file__).parents[1] / "golden" / "recorded_3b47f41.yaml").read_text())
SYSTEM = SystemConfig.model_validate(RECORDED["system"])
NEW_FIELD = (
    "a field that runs of 3b47f41 do not have must be marked with the value that means the same as its absence: "
    "name: Annotated[float, Neutral(0.0)] = 0.0 (drone_cbf/sections.py)"
)


class Fog(Section):
    """A group of settings that did not exist."""

    density: float = 0.0
    colour: Annotated[str, Neutral("grey")] = "grey"


class LaterScene(SceneConfig):
    """Two fields were added; the default of one was changed to a new behaviour afterwards."""

    fog: Annotated[Fog, Neutral(Fog())] = Fog()
    moving: Annotated[float, Neutral(0.0)] = 0.5


class LaterSystem(SystemConfig):
    scene: LaterScene = LaterScene()


class LaterParameters(SafetyParameters):
    dropout: Annotated[float, Neutral(0.0)] = 0.0


class LaterStage(Stage):
    swarm: Annotated[int, Neutral(1)] = 1


class LaterCurriculum(Curriculum):
    stages: tuple[LaterStage, ...]
    shuffled: Annotated[bool, Neutral(False)] = False


def recorded_parameters(stage: str) -> Section:
    return ENTRY_POINTS[stage].parameters.model_validate(RECORDED["stages"][stage]["parameters"])


def later_system(**scene: Any) -> SystemConfig:
    return LaterSystem.model_validate({**RECORDED["system"], "scene": {**RECORDED["system"]["scene"], **scene}})


@pytest.mark.parametrize("stage", RECORDED["stages"])
def test_runs_of_an_earlier_commit_keep_the_digest_that_they_recorded(stage: str) -> None:
    digest = config_digest(stage, recorded_parameters(stage), SYSTEM)
    assert digest == RECORDED["stages"][stage]["config_digest"], NEW_FIELD


def test_the_curriculum_of_an_earlier_commit_is_the_one_of_today() -> None:
    assert load_curriculum("default").comparable() == RECORDED["curriculum"], NEW_FIELD


def test_a_suite_finds_a_run_of_an_earlier_commit(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RECORDED["stages"]["safety"]
    tags = {"drone_cbf.stage": "safety", "drone_cbf.config_digest": recorded["config_digest"]}
    run_id = MlflowClient().create_run(experiment, tags=tags).info.run_id
    monkeypatch.setattr(suite_tasks, "settings", lambda parent: {"system": RECORDED["system"]})
    parent = recorded["parameters"]["parent_run"]
    task = suite_tasks.Task(ENTRY_POINTS["safety"], {"seed": "0", "curriculum": "default", "batch": "64"})
    assert [run.run_id for run in suite_tasks.earlier_runs(task, parent)] == [run_id]
    assert suite_tasks.earlier_runs(task, "0" * 32) == []


def test_a_later_field_changes_the_digest_only_of_runs_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RECORDED["stages"]["safety"]["config_digest"]
    plain = LaterParameters.model_validate(RECORDED["stages"]["safety"]["parameters"])
    curriculum = LaterCurriculum.model_validate(RECORDED["curriculum"])
    monkeypatch.setattr(digests, "with_levels", lambda loaded, levels: curriculum)

    def digest(parameters: Section = plain, system: SystemConfig = later_system(moving=0.0)) -> str:
        return config_digest("safety", parameters, system)

    assert digest() == expected
    used = [
        digest(plain.model_copy(update={"dropout": 0.1})),
        digest(system=later_system(moving=0.2)),
        digest(system=later_system(moving=0.0, fog={"density": 1.0})),
        digest(system=later_system(moving=0.0, fog={"colour": "green"})),
        digest(system=later_system()),  # the default that was changed later
    ]
    for change in ({"shuffled": True}, {"stages": (curriculum.stages[0].model_copy(update={"swarm": 2}),)}):
        curriculum = LaterCurriculum.model_validate(RECORDED["curriculum"]).model_copy(update=change)
        used.append(digest())
    assert len({expected, *used}) == 1 + len(used), "each is a digest of its own"


def test_an_evaluation_recorded_before_a_field_existed_stays_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = RECORDED["stages"]["evaluate"]
    recorded = {"parameters": stage["parameters"], "system": RECORDED["system"]}
    assert settings_digest(conditions(recorded)) == stage["conditions"], NEW_FIELD
    monkeypatch.setattr(evidence, "SceneConfig", LaterScene)

    def later(**scene: Any) -> dict[str, Any]:
        return {**recorded, "system": later_system(**scene).model_dump(mode="json")}

    assert "fog" in later()["system"]["scene"], "a new run records all of its settings"
    assert (
        settings_digest(conditions(recorded)) == settings_digest(conditions(later(moving=0.0))) == stage["conditions"]
    )
    for used in (later(), later(moving=0.0, fog={"density": 1.0})):
        assert conditions(used) != conditions(recorded)


def test_a_champion_from_before_a_field_existed_is_compared_with_what_does_not_use_it(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, model = MlflowClient(), "from-before"
    best = evaluate_run(experiment, "trained before", system=SYSTEM)
    register(experiment, model, "trained before", best)
    client.set_registered_model_alias(model, "champion", "1")
    monkeypatch.setattr(evidence, "SceneConfig", LaterScene)
    monkeypatch.setattr(certificates, "SystemConfig", LaterSystem)
    same = evaluate_run(experiment, "trained later", system=later_system(moving=0.0))
    assert find_judged(model, same, promoting=False).champion_run == best
    other = evaluate_run(experiment, "trained later", system=later_system(moving=0.2))
    with pytest.raises(ConfigError, match=r"not evaluated under the same conditions \(scene.moving = 0.2 here"):
        find_judged(model, other, promoting=False)


def test_every_parameter_of_an_evaluation_is_a_condition_or_known_to_be_none() -> None:
    others = {"unfiltered_rollouts", "blend"}  # more flights beside the judged ones; a property of the controller
    assert EvaluationSettings.model_fields.keys() == {*CONDITIONS, *LATER_CONDITIONS} | others
    defaults = EvaluationSettings()
    assert {name: getattr(defaults, name) for name in LATER_CONDITIONS} == LATER_CONDITIONS


def test_settings_that_this_version_does_not_know_are_one_clear_error() -> None:
    system = {**RECORDED["system"], "physics": {"rotors": 4}}
    with pytest.raises(LineageError, match="config.yaml of an evaluation does not fit this version.*rotors"):
        conditions({"parameters": RECORDED["stages"]["evaluate"]["parameters"], "system": system})


def test_what_was_not_recorded_is_not_made_up() -> None:
    assert PhysicsConfig.model_validate({"delay": 0.1}).comparable(recorded_only=True) == {"delay": 0.1}
    assert json.loads(json.dumps(SYSTEM.comparable())) == RECORDED["system"]
