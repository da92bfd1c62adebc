"""Evaluated policies as MLflow logged models, so that MLflow itself lists and ranks them.

``mlflow.search_logged_models(order_by=[{"field_name": "metrics.eval/success_rate", "ascending": False}])``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import mlflow
from mlflow.data.dataset import Dataset
from mlflow.entities import LoggedModelOutput
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.stage_run import StageRun
from drone_cbf.tracking.tags import NOTE_TAG

POLICY = "policy"  # Type of these models, for ``filter_string="model_type = 'policy'"``


def log_policy(
    run: StageRun, name: str, origin: Mapping[str, str], figures: Mapping[str, float], dataset: Dataset, about: str = ""
) -> str:
    """Logs ``figures`` on the evaluation ``run`` and on a new logged model for the policy that it measured.

    The model holds no weights: those are in the checkpoint of its training run. ``origin`` names that run, and the
    curriculum and seed that it had; it becomes params and tags of the model, ``about`` its description. Returns the ID.
    """
    model = mlflow.create_external_model(
        name=re.sub("[/:.%\"']", "_", name),  # what MLflow refuses
        source_run_id=run.run_id,
        params=dict(origin),
        tags={NOTE_TAG: about, **{f"drone_cbf.{key}": value for key, value in origin.items()}},
        model_type=POLICY,
        experiment_id=run.experiment_id,
    )
    MlflowClient().log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
    run.log_metrics(figures, model_id=model.model_id, dataset=dataset)
    return model.model_id
