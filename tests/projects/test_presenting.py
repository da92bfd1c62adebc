from __future__ import annotations

import pytest

from drone_cbf.config import Section, SystemConfig
from drone_cbf.tracking.runs.lineage import Parent
from projects.cli.stage_parameters import (
    EfficiencyParameters,
    EvaluateParameters,
    PipelineParameters,
    PretrainParameters,
    SafetyParameters,
)
from projects.running.run_names import run_name, scene_datasets

SYSTEM = SystemConfig()
TRAINED = Parent("1", "safety", {"parameters": {"curriculum": "fast", "seed": 3}})


@pytest.mark.parametrize(
    ("entry", "parameters", "parent", "name"),
    [
        ("efficiency", EfficiencyParameters(seed=2), None, "efficiency-seed2"),
        ("safety", SafetyParameters(parent_run="1", curriculum="hybrid"), None, "safety-hybrid-seed0"),
        ("safety", SafetyParameters(parent_run="1", curriculum="/home/x/mine.yaml"), None, "safety-mine-seed0"),
        ("pipeline", PipelineParameters(), None, "pipeline-default-seed0"),
        ("evaluate", EvaluateParameters(parent_run="1"), TRAINED, "evaluate-safety-fast-seed3"),
        ("evaluate", EvaluateParameters(parent_run="1"), Parent("1", "efficiency", {}), "evaluate-efficiency"),
    ],
)
def test_a_run_is_named_after_what_it_does(entry: str, parameters: Section, parent: Parent | None, name: str) -> None:
    assert run_name(entry, parameters, parent) == name


def test_training_and_evaluation_say_which_scenes_they_use_and_they_differ() -> None:
    training = list(scene_datasets(EfficiencyParameters(), SYSTEM))
    evaluation = list(scene_datasets(EvaluateParameters(parent_run="1"), SYSTEM))
    assert [context for _, context in (*training, *evaluation)] == ["training", "evaluation"]
    assert training[0][0].name == evaluation[0][0].name == "fixed_ring+random_cloud+forest"
    assert training[0][0].digest != evaluation[0][0].digest


def test_scenes_of_recorded_runs_keep_their_digest() -> None:
    """That of commit 2f79d42, although their generator has moved and there are other families."""
    for parameters in (EfficiencyParameters(), PretrainParameters(parent_run="1")):
        ((dataset, _),) = scene_datasets(parameters, SystemConfig())
        assert dataset.digest == "def85fa9030a7835"
    other = PretrainParameters(parent_run="1", scenes=("windows",))
    assert next(scene_datasets(other, SystemConfig()))[0].name == "windows"


def test_the_evaluated_policy_does_not_change_the_evaluation_dataset() -> None:
    digests = {
        dataset.digest
        for parent, blend in (("1", 1.0), ("2", 0.0))
        for dataset, _ in scene_datasets(EvaluateParameters(parent_run=parent, blend=blend), SYSTEM)
    }
    assert len(digests) == 1


def test_displaced_scenes_are_another_dataset() -> None:
    plain, displaced = (
        next(scene_datasets(EvaluateParameters(parent_run="1", augment=augment), SYSTEM))[0] for augment in (0.0, 0.3)
    )
    assert plain.digest != displaced.digest


def test_a_stage_that_flies_nothing_uses_no_scenes() -> None:
    assert list(scene_datasets(PipelineParameters(), SYSTEM)) == []
