"""A policy as an MLflow model: raw observations in, safe commands out, in Python and over HTTP alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from drone_cbf.errors import DroneCbfError, LineageError
from drone_cbf.tracking.checkpoints.packages import Package, read_package
from drone_cbf.tracking.runs.stage_run import failure_reason

ARTIFACT = "policy"  # Name of the model's artifact: a package (:mod:`drone_cbf.tracking.checkpoints.packages`)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Fields of a batch of observations by name -> fields of the answers by name."""
Build = Callable[[Package], Answer]


class ServedPolicy(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]  # mlflow loads it lazily
    """A package, answering. What it is asked, and what it answers, is documented with ``build``'s function."""

    def __init__(self, build: Build) -> None:
        self._build = build

    def load_context(self, context: Any) -> None:
        self._answer = self._build(read_package(Path(context.artifacts[ARTIFACT])))

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Answers a batch: MLflow hands over a table with one row per observation."""
        try:
            return self._answer({str(name): list(model_input[name]) for name in model_input})
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


def serve(build: Build) -> None:
    """Declares the model of a file from which MLflow loads it ("models from code")."""
    mlflow.models.set_model(ServedPolicy(build))


def policy_signature(required: Sequence[str], optional: Sequence[str]) -> ModelSignature:
    """Names of what goes in, with what is left out; types of what comes out.

    Inputs have no type in the signature, because MLflow's fit no batch of observations: column types refuse whole
    numbers among floats (``[3, 0, 1]`` in JSON), take a dictionary of arrays for a single row and check number by
    number; tensor types know no optional input. The model checks names, shapes, types and values itself.
    """
    answers: dict[str, Array | DataType] = {"command": Array(DataType.float), "nominal_command": Array(DataType.float)}
    answers |= {"h": DataType.float, "status": DataType.string}
    inputs = Schema([ColSpec(AnyType(), name, required=name in required) for name in (*required, *optional)])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(kind, name) for name, kind in answers.items()]))
