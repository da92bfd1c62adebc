from __future__ import annotations

import math

import mlflow
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.datasets import scene_dataset
from drone_cbf.tracking.registry.versions import log_policy
from drone_cbf.tracking.runs.stage_run import StageRun


def evaluated(experiment: str, name: str, **figures: float) -> StageRun:
    """An evaluation whose policy is a logged model of that name."""
    run = StageRun(MlflowClient().create_run(experiment).info.run_id, experiment, "evaluate")
    values = {f"eval/{key}": value for key, value in figures.items()}
    dataset = scene_dataset({}, ("forest",), 1000)
    log_policy(run, name, {"curriculum": name, "training_seed": "3"}, values, dataset, "**Meets all 5 targets.**")
    return run


def ranked(experiment: str, metric: str, **query: str) -> list[str]:
    order = [{"field_name": f"metrics.{metric}", "ascending": False}]
    found = mlflow.search_logged_models([experiment], order_by=order, output_format="list", **query)
    return [model.name for model in found]


def test_mlflow_ranks_policies_by_their_worst_cell_and_filters_them(experiment: str) -> None:
    for name, success in (("middle", 0.9), ("best", 0.99), ("worst", 0.2)):
        evaluated(experiment, name, success_rate=success)
    assert ranked(experiment, "eval/success_rate") == ["best", "middle", "worst"]
    good = "metrics.`eval/success_rate` >= 0.9 and model_type = 'policy'"
    assert ranked(experiment, "eval/success_rate", filter_string=good) == ["best", "middle"]
    assert ranked(experiment, "eval/success_rate", filter_string="params.curriculum = 'worst'") == ["worst"]


def test_a_policys_figures_name_their_evaluation_and_scenes_and_are_logged_once_on_the_run(experiment: str) -> None:
    run = evaluated(experiment, "default/mine", success_rate=0.9, time_to_goal=math.nan)
    (model,) = mlflow.search_logged_models([experiment], output_format="list")
    assert (model.name, model.source_run_id, model.status) == ("default_mine", run.run_id, "READY")
    (figure,) = model.metrics
    assert (figure.key, figure.value, figure.dataset_name) == ("eval/success_rate", 0.9, "forest")
    assert math.isnan(MlflowClient().get_run(run.run_id).data.metrics["eval/time_to_goal"]), "of the run, not as a 0"
    assert len(MlflowClient().get_metric_history(run.run_id, "eval/success_rate")) == 1
    assert model.tags["drone_cbf.training_seed"] == "3" and "targets" in model.tags["mlflow.note.content"]
