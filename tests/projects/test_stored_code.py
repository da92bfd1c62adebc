"""The code that a registered version carries: verified, and the only one that answers for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest

from drone_cbf.serving.fields import example_observations
from drone_cbf.serving.service import PolicyService
from projects.registration import register
from tests.projects.test_register import registered
from tests.projects.trained import SYSTEM, controller, evaluated

ROOT = register.ROOT


@pytest.fixture
def copied(experiment: str, tmp_path: Path) -> Path:
    """A copy of a registered version, in a folder of its own."""
    _, evaluation = evaluated(experiment)
    registered(experiment, "alone", f"--run={evaluation}")
    return Path(mlflow.artifacts.download_artifacts("models:/alone@challenger", dst_path=str(tmp_path)))


@pytest.mark.slow
def test_a_version_loads_with_its_own_code_from_any_folder(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "batch.json").write_text(json.dumps({k: v.tolist() for k, v in example_observations().items()}))
    script = (
        "import inspect, json, mlflow, sys\n"
        f"model = mlflow.pyfunc.load_model({str(copied)!r})\n"
        "print(json.dumps([model.predict(json.load(open('batch.json')))['status'].tolist()]))\n"
        "print(inspect.getfile(type(model.unwrap_python_model().answer)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    statuses, origin = done.stdout.splitlines()[-2:]
    assert Path(origin).is_relative_to(copied / "code"), "the code stored with the version is what runs"
    assert json.loads(statuses)[0][0] in ("nominal", "intervened", "relaxed")


@pytest.mark.slow
def test_versions_of_different_code_answer_in_one_process_each_with_its_own(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second version's code gives the status of a blind drone another name; neither is what is installed here."""
    _, evaluation = evaluated(experiment)
    blind = {**example_observations(), "mask": np.zeros((1, 2), bool)}
    models = []
    for version, word in enumerate(("blind_in_one", "blind_in_two"), start=1):
        folder = tmp_path / str(version)
        shutil.copytree(ROOT / "drone_cbf", folder / "drone_cbf")
        for file in ("requirements.txt", "projects/registration/policy_model.py"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        controller_file = folder / "drone_cbf" / "serving" / "controller.py"
        controller_file.write_text(
            controller_file.read_text().replace("name.lower()", f"name.lower().replace('no_points', '{word}')")
        )
        with monkeypatch.context() as patch:
            patch.setattr(register, "ROOT", folder)
            registered(experiment, "two", f"--run={evaluation}")
        models.append(mlflow.pyfunc.load_model(f"models:/two/{version}"))
    loaded = set(sys.modules)
    two_rows = {name: np.repeat(values, 2, axis=0) for name, values in blind.items()}
    for fields in (blind, two_rows):  # a batch of two is compiled only now
        assert [model.predict(fields)["status"][0] for model in models] == ["blind_in_one", "blind_in_two"]
        assert PolicyService(SYSTEM, controller())(fields)["status"][0] == "no_points"
    assert set(sys.modules) == loaded, "nothing of them is imported later, when their folders may be gone"
    memory = models[0].predict(blind)["memory"]
    models[0].predict({**blind, "memory": memory})
