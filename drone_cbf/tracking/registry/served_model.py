"""A policy as an MLflow model: raw observations in, safe commands out, in Python and over HTTP alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from drone_cbf.errors import DroneCbfError, LineageError
from drone_cbf.tracking.checkpoints.packages import Package, read_package
from drone_cbf.tracking.registry.request_forms import batch_fields
from drone_cbf.tracking.runs.stage_run import failure_reason

ARTIFACT = "policy"  # Name of the model's artifact: a package (:mod:`drone_cbf.tracking.checkpoints.packages`)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Fields of a batch of observations by name -> fields of the answers by name."""


class ServedPolicy:
    """What a stored version answers with: takes what MLflow hands over, and refuses in MLflow's way."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def __call__(self, model_input: Any) -> Mapping[str, Any]:
        """Answers a batch in any form (:mod:`drone_cbf.tracking.registry.request_forms`)."""
        try:
            return self.answer(batch_fields(model_input))
        except DroneCbfError as error:  # anything but an error of MLflow's own reaches an HTTP client without its text
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error


def download_package(model_uri: str) -> Package:
    """The package of a registered policy, such as ``models:/drone-policy@champion``.

    Raises LineageError if there is no such model version, and CheckpointError if its files are incomplete or altered.
    """
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        try:
            model = mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=folder)
        except MlflowException as error:
            remedy = "register a policy (mlflow run . -e register -P run=<run id>), or correct the URI"
            raise LineageError(f"{model_uri} cannot be loaded ({failure_reason(error)}); {remedy}") from error
        return read_package(Path(model) / "artifacts" / ARTIFACT)


def load_served(model_uri: str) -> Answer:
    """``predict`` of a registered policy, which answers with the code that is stored in the version."""
    loaded = mlflow.pyfunc.load_model(model_uri)
    return loaded.predict


def policy_signature(required: Sequence[str], optional: Sequence[str], *, camera: bool = False) -> ModelSignature:
    """Names of what goes in, with what may be left out; types of what comes out. It is shown, not enforced.

    ``camera``: the answer says where to look.

    MLflow's own check would drop what it does not know, take a dictionary of arrays for a single row, refuse whole
    numbers among floats (``[3, 0, 1]`` in JSON), and go number by number through lists. It leaves requests to models
    whose signature is marked as derived from type hints, which are to check themselves; so does this one.
    """
    answers: dict[str, Array | DataType] = {"command": Array(DataType.float), "nominal_command": Array(DataType.float)}
    answers |= {"h": DataType.float, "status": DataType.string, "memory": Array(DataType.double)}
    answers |= {"look": Array(DataType.float)} if camera else {}
    inputs = Schema([ColSpec(AnyType(), name, required=name in required) for name in (*required, *optional)])
    outputs = Schema([ColSpec(kind, name) for name, kind in answers.items()])
    signature = ModelSignature(inputs=inputs, outputs=outputs)
    signature._is_signature_from_type_hint = True  # stored with the model
    return signature
