"""Policies among MLflow's models: those that were evaluated, and the versions of a registered model.

Versions are found by alias: ``champion`` passed the gate, ``challenger`` is new. Evaluated policies are ranked by
``mlflow.search_logged_models(order_by=[{"field_name": "metrics.eval/success_rate", "ascending": False}])``.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.dataset import Dataset
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError
from drone_cbf.tracking.checkpoints.packages import write_package
from drone_cbf.tracking.queries.evidence import EVALUATION_TAG
from drone_cbf.tracking.registry.scoring import MARK
from drone_cbf.tracking.registry.served_model import ARTIFACT
from drone_cbf.tracking.runs.stage_run import StageRun, failure_reason, shorten
from drone_cbf.tracking.tags import NOTE_TAG

LONGEST_DESCRIPTION = 5000  # Of a version; PostgreSQL refuses more (sqlite does not)
CHALLENGER, CHAMPION = "challenger", "champion"
POLICY = "policy"  # type of logged models, for ``filter_string="model_type = 'policy'"``
TRAINING_TAG = "drone_cbf.training_run"
MODEL_NOTE = """\
Drone policies behind their safety filter. `@challenger` is the newest version, `@champion` the one that passed the gate
(`mlflow run . -e gate -P run=<run id> -P promote=true`). Each version's description holds its evidence.
"""


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


@dataclass(frozen=True)
class Servable:
    """What a version is made of."""

    tree: Any  # the controller's parameters: a pytree of arrays
    config: Mapping[str, Any]  # ``config.yaml`` of the package: system, and where it comes from
    code: Path  # file from which MLflow loads the model
    package: Path  # folder of the package that this file imports
    requirements: Path  # requirements.txt, pinned
    signature: ModelSignature
    example: Mapping[str, Any]  # a batch of observations, as arrays by name


@dataclass(frozen=True)
class Evidence:
    """What is known about a version: metrics and scenes of its evaluation, Markdown, and where it comes from."""

    metrics: Mapping[str, float]
    dataset: Dataset
    description: str
    tags: Mapping[str, str]


def register_policy(run: StageRun, name: str, servable: Servable, evidence: Evidence) -> ModelVersion:
    """Logs the model on ``run``, links the evaluation's metrics to it, and makes it the ``challenger`` of ``name``."""
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        stored = stored_model(servable, Path(folder) / ARTIFACT)
        logged = mlflow.pyfunc.log_model(name=name, tags=dict(evidence.tags), **stored)
    metrics = dict(evidence.metrics)
    mlflow.log_metrics(metrics, run_id=run.run_id, model_id=logged.model_id, dataset=evidence.dataset)
    client = MlflowClient()
    version = mlflow.register_model(logged.model_uri, name, tags=dict(evidence.tags))
    client.update_model_version(name, version.version, shorten(evidence.description, LONGEST_DESCRIPTION))
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, MODEL_NOTE)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return version


def stored_model(servable: Servable, package: Path) -> dict[str, Any]:
    """Arguments of MLflow's ``log_model`` or ``save_model``; arrays and settings go to the new folder ``package``."""
    write_package(package, servable.tree, servable.config, code=_code_digests(servable))
    return {
        "python_model": str(servable.code),
        "artifacts": {ARTIFACT: str(package)},
        "code_paths": [str(servable.package)],
        "pip_requirements": str(servable.requirements),
        "signature": servable.signature,
        "metadata": MARK,
        "input_example": dict(servable.example),
    }


def _code_digests(servable: Servable) -> dict[str, str]:
    """SHA-256 of every file of code by its path in the stored model, which verifies them before it imports any."""
    root = servable.package.parent
    files = [file for file in servable.package.rglob("*") if file.is_file() and file.parent.name != "__pycache__"]
    places = {servable.code.name: servable.code} | {f"code/{file.relative_to(root).as_posix()}": file for file in files}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in places.items()}


def champion(name: str) -> ModelVersion | None:
    """The version of ``name`` with the alias ``champion``, if there is one."""
    try:
        return MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def version_at(uri: str) -> ModelVersion:
    """The version that ``models:/<name>@<alias>`` or ``models:/<name>/<version>`` means; LineageError if there is none.

    The alias may move while it is being used: what follows should name the version.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    try:
        if alias:
            return MlflowClient().get_model_version_by_alias(name, alias)
        return MlflowClient().get_model_version(*name.split("/"))
    except MlflowException as error:
        remedy = "register a policy (mlflow run . -e register -P run=<run id>), or correct the URI"
        raise LineageError(f"{uri} is no registered version ({failure_reason(error)}); {remedy}") from error


def uri_of(version: ModelVersion) -> str:
    """Address of the version, whatever becomes of its aliases."""
    return f"models:/{version.name}/{version.version}"


def tag_version(version: ModelVersion, **tags: str) -> None:
    """Sets tags ``drone_cbf.<name>`` of the version."""
    for name, text in tags.items():
        MlflowClient().set_model_version_tag(version.name, version.version, f"drone_cbf.{name}", text)


def versions_of(name: str, evaluation_run: str) -> list[ModelVersion]:
    """The versions of ``name`` for which that evaluation speaks, newest first."""
    found = MlflowClient().search_model_versions(f"name = '{name}'")
    mine = [version for version in found if version.tags.get(EVALUATION_TAG) == evaluation_run]
    return sorted(mine, key=lambda version: int(version.version), reverse=True)


def run_of(version: ModelVersion, tag: str) -> str:
    """The run that the version's ``tag`` names: its training, or its evaluation; LineageError if the tag is missing."""
    if tag not in version.tags:
        remedy = "it was not made by the entry point register: register a run and promote that version"
        raise LineageError(f"version {version.version} of {version.name} has no tag {tag}; {remedy}")
    return version.tags[tag]


def promote(version: ModelVersion) -> None:
    """Makes the version the ``champion``; if it was the ``challenger``, that alias goes first.

    Deleting asks for more rights on a server than setting: whoever lacks them changes nothing.
    """
    client = MlflowClient()
    challenger = client.get_registered_model(version.name).aliases.get(CHALLENGER)
    if str(challenger) == str(version.version):
        client.delete_registered_model_alias(version.name, CHALLENGER)
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
