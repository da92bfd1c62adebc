"""The evaluation that represents a policy, the conditions under which it was made, and the best of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from pydantic import ValidationError

from drone_cbf.config import PhysicsConfig, SceneConfig
from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.tracking.checkpoints.certificates import recorded_system
from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.queries.records import evaluations_of, search_runs
from drone_cbf.tracking.runs import lineage
from drone_cbf.tracking.runs.lineage import Parent, get_run, load_config
from drone_cbf.tracking.tags import COMMIT_TAG, CONFIG_FILE, DIRTY_TAG, NESTED_TAG, PARENT_TAG, STAGE_TAG

EVALUATION_TAG = "drone_cbf.evaluation_run"
"""On a register run and a model version: the evaluate run of the registered policy."""
RANKING = {"eval/collisions": 1, "eval/max_violation": 1, "eval/success_rate": -1, "eval/final_distance_mean": 1}
"""The order of ``best_of``: metric of the evaluation -> 1 if less is better, -1 if more is. Ties go to the latest."""
_EVALUATE = "mlflow run . -e evaluate -P parent_run={}"
CONDITIONS = ("scenarios", "noise", "goals", "rollouts", "horizon", "seed")
"""Parameters of an evaluation that decide which flights it makes."""
LATER_CONDITIONS: dict[str, Any] = {"augment": 0.0, "speeds": (), "drones": ()}
"""Those that were added after evaluations had been recorded -> the value with which all is as before."""
_TRAINING_ONLY = ("gradient_decay", "gradient_limit")
CURRICULUM_TAG = "drone_cbf.curriculum"


@dataclass(frozen=True)
class EvaluatedPolicy:
    """A policy, its safety run, its evaluation and the ``config.yaml`` of that."""

    training: Parent
    evaluation: Run
    config: Mapping[str, Any]
    provenance: Mapping[str, str]
    """Tags: curriculum, seed and commit of the training, digest of the evaluation's conditions."""


def evaluated_policy(evaluation: Run) -> EvaluatedPolicy:
    """The policy that an evaluation measured; LineageError if its parent is no finished safety run with a config."""
    training = lineage.resolve_parent(evaluation.data.tags.get(PARENT_TAG, ""), ("safety",))
    config = load_config(evaluation.info.run_id)
    recorded_system(config, f"{CONFIG_FILE} of run {evaluation.info.run_id}")
    if not any(name.startswith("eval/") for name in evaluation.data.metrics) or "parameters" not in config:
        again = _EVALUATE.format(training.run_id)
        raise LineageError(f"run {evaluation.info.run_id} holds no figures of an evaluation; evaluate again: {again}")
    tags = get_run(training.run_id).data.tags
    known = {name: tags[name] for name in (CURRICULUM_TAG, COMMIT_TAG, DIRTY_TAG) if name in tags}
    seed = str(training.config.get("parameters", {}).get("seed", "unknown"))
    provenance = {**known, "drone_cbf.seed": seed, "drone_cbf.conditions": settings_digest(conditions(config))}
    return EvaluatedPolicy(training, evaluation, config, provenance)


def find_evaluation(run_id: str) -> Run:
    """The finished evaluation of ``run_id``: an evaluate run itself, or a training, pipeline or register run.

    Raises LineageError if there is no such run, it is deleted or unfinished, or nothing finished has evaluated it.
    """
    run = lineage.get_active_run(run_id)
    stage = run.data.tags.get(STAGE_TAG, "unknown")
    if stage == "evaluate":
        lineage.check_finished(run, wanted="a finished evaluation")
        return run
    if EVALUATION_TAG in run.data.tags:
        return find_evaluation(run.data.tags[EVALUATION_TAG])
    if stage == "pipeline":
        children = [(child.data.tags.get(STAGE_TAG), child) for child in lineage.children(run)]
        found = [child for stage, child in children if stage == "evaluate" and child.info.status == "FINISHED"]
        trained = [child.info.run_id for stage, child in children if stage == "safety"]
        _refuse_several(run_id, found)
    elif stage in ("efficiency", "pretrain_cbf", "safety"):
        found, trained = evaluations_of(run_id), [run_id]
    else:
        remedy = "name a safety, evaluate, pipeline or register run"
        raise LineageError(f"run {run_id} is a run of stage {stage}, which has no evaluation; {remedy}")
    if not found:
        command = _EVALUATE.format(trained[-1] if trained else "<safety run>")
        raise LineageError(f"run {run_id} ({stage}) has no finished evaluation; evaluate it first: {command}")
    return max(found, key=lambda each: each.info.start_time)


def _refuse_several(pipeline: str, found: Sequence[Run]) -> None:
    """LineageError where a pipeline has evaluated several policies: one of each of its seeds."""
    if len({run.data.tags.get(PARENT_TAG) for run in found}) > 1:
        names = ", ".join(run.info.run_id for run in found)
        remedy = f"""name one of {names}, or take the best: best_of="tags.`{NESTED_TAG}` = '{pipeline}'\""""
        raise LineageError(f"pipeline {pipeline} holds evaluations of several seeds; {remedy}")


def best_evaluation(query: str) -> Run:
    """The best evaluation, by :data:`RANKING`, of the runs that match ``query``.

    ``query`` is a filter of MLflow's ``search_runs``. It may name evaluations themselves, or safety runs or pipelines.
    Raises ConfigError if MLflow refuses the filter, or it finds evaluations made under different conditions, and
    LineageError if it finds no finished evaluation.
    """
    found = {run.info.run_id: run for run in map(_evaluation_or_none, search_runs(query)) if run is not None}
    if not found:
        remedy = f"correct the filter, or evaluate first: {_EVALUATE.format('<safety run>')}"
        raise LineageError(f"best_of = {query} finds no finished evaluation of a safety run; {remedy}")
    by_conditions = {settings_digest(conditions(load_config(run_id))) for run_id in found}
    if len(by_conditions) > 1:
        raise ConfigError(
            f"best_of = {query} finds {len(found)} evaluations under {len(by_conditions)} different conditions "
            f"({', '.join((*CONDITIONS, *LATER_CONDITIONS))}, scene, physics), which cannot be ranked; narrow the "
            "filter, e.g. with params.rollouts = '1024'"
        )
    return min(found.values(), key=_rank)


def conditions(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides which flights an evaluation with this ``config.yaml`` made: matrix, seed, scenes, drone.

    Settings are compared as :meth:`Section.comparable` gives them: one that was added later makes a difference only
    to evaluations that use it.
    """
    try:
        parameters, system = config["parameters"], config["system"]
        scene = SceneConfig.model_validate(system["scene"]).comparable(recorded_only=True)
        physics = PhysicsConfig.model_validate(system["physics"]).comparable(recorded_only=True)
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise LineageError(f"{CONFIG_FILE} of an evaluation does not fit this version ({reason}); repeat it") from error
    later = {name: parameters.get(name, neutral) for name, neutral in LATER_CONDITIONS.items()}
    later = {name: tuple(value) if isinstance(value, list) else value for name, value in later.items()}
    return {
        **{name: parameters.get(name) for name in CONDITIONS},
        **{name: value for name, value in later.items() if value != LATER_CONDITIONS[name]},
        "scene": scene,
        "physics": {name: value for name, value in physics.items() if name not in _TRAINING_ONLY},
    }


def differences(mine: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every difference between two nested settings: name and both values."""
    found: list[str] = []
    for name in sorted(mine.keys() | other.keys()):
        left, right = mine.get(name), other.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append(f"{prefix}{name} = {left} here, {right} there")
    return found


def _rank(run: Run) -> tuple[float, ...]:
    figures = [run.data.metrics.get(name, math.nan) * sign for name, sign in RANKING.items()]
    return (*(math.inf if math.isnan(figure) else figure for figure in figures), -run.info.start_time)


def _evaluation_or_none(run: Run) -> Run | None:
    """The evaluation of ``run``, if it is one of a safety run."""
    if run.data.tags.get(STAGE_TAG) not in ("evaluate", "safety", "pipeline"):
        return None
    try:
        evaluation = find_evaluation(run.info.run_id)
        trained = get_run(evaluation.data.tags.get(PARENT_TAG, ""), "parent_run")
    except LineageError:  # a filter may also match runs that were not evaluated
        return None
    return evaluation if trained.data.tags.get(STAGE_TAG) == "safety" else None
