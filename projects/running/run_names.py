"""How a run presents itself in the MLflow UI: a name that says what it is, and the scenes that it used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drone_cbf.config import Section, SystemConfig
from drone_cbf.evaluation.settings import EvaluationSettings
from drone_cbf.tracking.datasets import Dataset, scene_dataset
from drone_cbf.tracking.runs.lineage import Parent
from drone_cbf.training.settings import EfficiencySettings, PretrainingSettings, SafetySettings


def run_name(entry: str, parameters: Section, parent: Parent | None) -> str:
    """Stage, curriculum and seed as one word, as in ``safety-fast-seed0``; an evaluation's are those of its parent."""
    words, source = [entry], parameters.model_dump(mode="json")
    if isinstance(parameters, EvaluationSettings) and parent is not None:
        words, source = [entry, parent.stage], parent.config.get("parameters", {})
    words += [Path(source["curriculum"]).stem] if "curriculum" in source else []
    if "seed" in source:
        words += [f"seeds{','.join(map(str, seeds))}" if (seeds := source.get("seeds")) else f"seed{source['seed']}"]
    return "-".join(words)


def scene_datasets(parameters: Section, system: SystemConfig) -> Iterator[tuple[Dataset, str]]:
    """The scenes that a stage with these parameters uses, and for what; none for a stage that flies nothing."""
    scene = system.scene.comparable()
    if isinstance(parameters, EfficiencySettings | PretrainingSettings | SafetySettings):
        yield scene_dataset(scene, parameters.scenes, parameters.seed, goals=["random"]), "training"
    elif isinstance(parameters, EvaluationSettings):
        further: dict[str, Any] = {"goals": list(parameters.goals), "rollouts": parameters.rollouts}
        further |= {"augment": parameters.augment} if parameters.augment else {}
        further |= {"speeds": list(parameters.speeds)} if parameters.speeds else {}
        further |= {"drones": list(parameters.drones)} if parameters.drones else {}
        yield scene_dataset(scene, parameters.scenarios, parameters.seed, **further), "evaluation"
