"""From a registered version to an exported policy that flies in another process, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.models import utils
from mlflow.tracking import MlflowClient

from drone_cbf.serving.fields import example_observations
from projects.running.launch import launch
from tests.exporting.exported import asked_alone
from tests.projects.test_register import registered
from tests.projects.test_running import last_run
from tests.projects.trained import evaluate_run, safety_run
from tests.serving.services import SYSTEM
from tests.stores import tracking

URI = "models:/flying@challenger"
SHORT = ("--forms=stablehlo", "--points=288", "--steps=100", "--calls=20")
"""As many points as the scanner has rays."""


@pytest.fixture(scope="module")
def experiment_of_version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Experiment with a version of a policy that sees by range scans, in a store of its own that is the active one."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch, tracking(f"sqlite:///{folder}/mlflow.db"):
        patch.chdir(folder)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        experiment = mlflow.create_experiment("export", artifact_location=(folder / "artifacts").as_uri())
        patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        patch.setattr(utils, "_validate_serving_input", lambda **_: None)  # MLflow's own trial with the example
        training = safety_run(experiment, system=SYSTEM)
        registered(experiment, "flying", f"--run={evaluate_run(experiment, training, system=SYSTEM)}")
        yield experiment


@pytest.mark.slow
def test_a_version_is_exported_linked_and_flies_alone_and_one_that_deviates_is_not_stored(
    experiment_of_version: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    client = MlflowClient()
    assert launch("export", [f"--model={URI}", *SHORT]) == 0
    run, version = last_run(experiment_of_version), client.get_model_version_by_alias("flying", "challenger")
    assert run.data.metrics["parity/stablehlo/command"] <= 0.01
    assert 0.0 < run.data.metrics["latency/stablehlo/p50_ms"] <= run.data.metrics["latency/stablehlo/p99_ms"]
    told = {name: run.data.tags[f"drone_cbf.{name}"] for name in ("model", "model_version", "training_run")}
    assert told == {"model": "flying", "model_version": "1", "training_run": version.tags["drone_cbf.training_run"]}
    assert version.tags["drone_cbf.export_run"] == run.info.run_id
    assert "stablehlo_loader" in capsys.readouterr().out
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/export", dst_path=str(tmp_path)))
    example = example_observations()
    (answer,) = asked_alone(folder, "stablehlo", [example])
    served = mlflow.pyfunc.load_model(URI).predict(example)
    np.testing.assert_allclose(answer["command"], served["command"], atol=1e-3)

    assert launch("export", [f"--model={URI}", *SHORT, "--tolerance=1e-12"]) == 1
    refused = last_run(experiment_of_version)
    assert "commands otherwise than the served policy" in capsys.readouterr().err
    assert refused.info.status == "FAILED" and refused.data.metrics == {}
    assert "export" not in {file.path for file in client.list_artifacts(refused.info.run_id)}
    assert client.get_model_version("flying", "1").tags["drone_cbf.export_run"] == run.info.run_id


def test_what_cannot_be_exported_is_refused_in_one_line(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--model=models:/nothing@champion", "--forms=stablehlo"], "is no registered version"),
        (["--model=drone-policy"], "model"),
        (["--forms=onnx,onnx"], "holds onnx twice"),
        (["--forms=tflite"], "forms"),
        (["--steps=99"], "steps"),
    ):
        assert launch("export", words) == 1
        shown = capsys.readouterr().err
        assert message in shown and "Traceback" not in shown, words
