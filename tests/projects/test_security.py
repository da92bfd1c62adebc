"""What is planted in a store or in a parameter is never run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import jax.numpy as jnp
import mlflow
import numpy as np
import pytest
import yaml

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints.packages import read_package, write_package
from projects.cli.arguments import mlflow_run as command_to_run
from tests.projects.small_pipeline import ROOT, mlflow_run, stored_runs
from tests.projects.test_register import registered
from tests.projects.trained import evaluated
from tools import team_server

SHELL = """'; touch A; $(touch B) `touch C` | touch D & touch E > F "$HOME" {seed} \\ * ~ !x #"""
"""A value that does something in every shell that reads it unquoted."""


class Planted:
    """Creates a file if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.mark), "w")


def plant(folder: Path, mark: Path) -> None:
    """Pickles under every name by which something may look for one."""
    planted = Planted(mark)
    for name in ("python_model.pkl", "model.pkl", "data.pickle", "checkpoint/_METADATA.pkl", "checkpoint/array"):
        (folder / name).write_bytes(pickle.dumps(planted))
    np.save(folder / "checkpoint" / "policy.npy", np.array([planted], object), allow_pickle=True)


def renew_manifest(folder: Path) -> None:
    """As somebody would who can write to the store."""
    files = {file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json"}
    sums = {
        file.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in files
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": sums}))


def test_a_pickle_planted_in_a_checkpoint_is_never_read(tmp_path: Path) -> None:
    folder, mark = tmp_path / "policy", tmp_path / "mark"
    write_package(folder, {"policy": {"a": jnp.ones(2)}}, {"system": {}})
    plant(folder, mark)
    with pytest.raises(CheckpointError, match="is missing or altered"):
        read_package(folder)
    renew_manifest(folder)
    np.testing.assert_array_equal(read_package(folder).tree["policy"]["a"], 1.0)
    (folder / "checkpoint" / "_METADATA").write_bytes(pickle.dumps(Planted(mark)))
    renew_manifest(folder)
    with pytest.raises(CheckpointError, match="the arrays in checkpoint cannot be read"):
        read_package(folder)
    (folder / "config.yaml").write_text(f"system: !!python/object/apply:builtins.open [{mark}, w]\n")
    renew_manifest(folder)
    with pytest.raises(CheckpointError, match="could not determine a constructor"):
        read_package(folder)
    assert not mark.exists()


@pytest.mark.slow
def test_a_version_loads_where_pickles_are_forbidden_and_one_turned_into_a_pickle_does_not(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    _, evaluation = evaluated(experiment)
    registered(experiment, "planted", f"--run={evaluation}")
    model = Path(mlflow.artifacts.download_artifacts("models:/planted@challenger", dst_path=str(tmp_path)))
    mlflow.pyfunc.load_model(str(model))
    mark, about = tmp_path / "mark", yaml.safe_load((model / "MLmodel").read_text())
    (model / "python_model.pkl").write_bytes(pickle.dumps(Planted(mark)))
    flavour = about["flavors"]["python_function"]
    flavour.pop("model_code_path", None)
    flavour |= {"python_model": "python_model.pkl", "cloudpickle_version": "3.1.2"}
    (model / "MLmodel").write_text(yaml.safe_dump(about))
    with pytest.raises(mlflow.MlflowException):
        mlflow.pyfunc.load_model(str(model))
    assert not mark.exists()


def test_no_code_of_the_project_reads_pickles() -> None:
    for file in [*(ROOT / "drone_cbf").rglob("*.py"), *(ROOT / "projects").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        for word in (
            "pickle.load",
            "import pickle",
            "cloudpickle",
            "joblib",
            "allow_pickle=True",
            "yaml.load(",
            "eval(",
        ):
            assert word not in text, f"{file} holds {word}"


def test_a_command_that_is_told_to_a_person_quotes_its_values(tmp_path: Path) -> None:
    command = command_to_run("evaluate", {"replay": SHELL}).replace("mlflow run", "echo")
    assert os.system(f"cd {tmp_path} && {command} > /dev/null") == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_shell_metacharacters_in_a_parameter_do_nothing_under_a_real_mlflow_run(tmp_path: Path) -> None:
    done = mlflow_run(tmp_path, "efficiency", {"scenes": SHELL, "physics.lag_time": SHELL})
    assert done.returncode != 0 and "efficiency failed: " in done.stderr
    assert {file.name for file in tmp_path.iterdir()} <= {"mlflow.db", "mlruns"}
    assert not [name for name in "ABCDEF" if (ROOT / name).exists()]
    assert stored_runs(tmp_path)["efficiency"].info.status == "FAILED"


def test_the_team_server_keeps_its_passwords_out_of_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {}

    def remember(options: list[str], log: Path, port: int, settings: dict[str, str]) -> object:
        started.update(options=options, settings=settings)
        raise InterruptedError

    monkeypatch.setattr(team_server, "mlflow_server", remember)
    with pytest.raises(InterruptedError), team_server._mlflow(tmp_path / "m", "postgresql://mlflow:SECRET@host", 5000):
        pass
    assert "SECRET" not in " ".join(started["options"]) and "SECRET" in started["settings"]["MLFLOW_BACKEND_STORE_URI"]
    recipe = (ROOT / "docs" / "team-server.md").read_text(encoding="utf-8")
    commands = [line for line in recipe.splitlines() if "mlflow server" in line or line.strip().startswith("--")]
    assert any("--host 127.0.0.1" in line for line in commands) and not any("PASSWORD" in line for line in commands)
    assert "0.0.0.0" not in recipe
