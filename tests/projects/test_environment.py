from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tools import conda_standin, pins

ROOT = Path(__file__).resolve().parents[2]


def conda(*arguments: str) -> int:
    return conda_standin.main(list(arguments))


def write_environment(folder: Path, requirement: str, python: str = "python>=3.11") -> Path:
    (folder / "requirements.txt").write_text(f"# pinned\n{requirement}\n")
    (folder / "constraints.txt").write_text("surely-not-installed==1.0\n")
    file = folder / "conda.yaml"
    file.write_text(
        f"name: x\ndependencies:\n  - {python}\n  - pip\n  - pip: [-c constraints.txt, -r requirements.txt]\n"
    )
    return file


def test_the_fingerprint_in_conda_yaml_is_that_of_the_pins() -> None:
    found = re.search(r"^# pins: sha256:(\w+)$", (ROOT / "conda.yaml").read_text(), re.MULTILINE)
    assert found and found[1] == pins.fingerprint(), "run 'make pins'"


def test_every_direct_pin_is_exact_and_repeated_by_the_constraints() -> None:
    constraints = {r.name.lower(): str(r.specifier) for r in pins.requirements(ROOT / "constraints.txt")}
    extras = ("dev", "server", "export", "jax2onnx", "gym", "sweep", "recordings", "slurm", "ray")
    for name in ("requirements.txt", *(f"requirements-{extra}.txt" for extra in extras)):
        for requirement in pins.requirements(ROOT / name):
            assert str(requirement.specifier).startswith("==")
            assert constraints[requirement.name.lower()] == str(requirement.specifier), "run 'make pins'"
    cuda = next(pins.requirements(ROOT / "requirements-cuda.txt"))
    assert constraints[cuda.name] == str(cuda.specifier), "the CUDA build is the same JAX"


def test_this_environment_satisfies_the_projects_pins() -> None:
    assert pins.conda_mismatches(ROOT / "conda.yaml") == []


def test_the_standin_answers_the_calls_of_mlflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_environment(tmp_path, "pytest>=1")
    assert conda("--help") == 0 and "stand-in" in capsys.readouterr().out
    assert conda("env", "list", "--json") == 0 and capsys.readouterr().out == '{"envs": []}\n'
    assert conda("env", "create", "-n", "mlflow-1", "--file", str(file)) == 0
    assert capsys.readouterr() == ("", ""), "nothing to say where all is well"


@pytest.mark.parametrize(
    "call", [("install", "numpy"), ("env", "remove"), (), ("env", "create"), ("create", "-n", "x")]
)
def test_the_standin_refuses_everything_else(call: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert conda(*call) == 2
    assert "refuses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("requirement", "python", "message"),
    [
        ("pytest==0.1", "python>=3.11", "pytest is .*, pinned ==0.1"),
        ("surely-not-installed==1.0", "python>=3.11", "surely-not-installed==1.0 is not installed"),
        ("pytest>=1", "python<3", "Python is .*, pinned <3"),
        ("a b c", "python", "cannot be checked"),
    ],
)
def test_the_standin_refuses_where_the_environment_differs_and_says_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    requirement: str,
    python: str,
    message: str,
) -> None:
    monkeypatch.setattr(conda_standin, "fail_waiting_run", lambda reason: None)
    assert conda("env", "create", "-n", "x", "--file", str(write_environment(tmp_path, requirement, python))) == 1
    shown = capsys.readouterr().err
    assert re.search(message, shown) and "run 'make install'" in shown


def standin_on_path(folder: Path) -> dict[str, str]:
    """Environment variables under which 'conda' is the stand-in, run by this interpreter, whose folder is active."""
    script = folder / "conda"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tools/conda_standin.py" "$@"\n')
    script.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "CONDA_"))}
    return {**kept, "PATH": os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])}


@pytest.mark.slow
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="the stand-in serves virtual environments only")
@pytest.mark.parametrize(
    ("pin", "works"),
    [
        ("pytest==0.1", False),
        ("pytest>=1", True),
    ],
)
def test_mlflow_run_starts_only_in_an_environment_that_satisfies_the_pins(
    tmp_path: Path, pin: str, works: bool
) -> None:
    write_environment(tmp_path, pin)
    (tmp_path / "start.py").write_text("open('started', 'w')")
    (tmp_path / "MLproject").write_text(
        "name: p\nconda_env: conda.yaml\nentry_points:\n  main:\n    command: python start.py\n"
    )
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", "."],
        cwd=tmp_path, env=standin_on_path(bin_folder), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (result.returncode == 0) is works, result.stderr
    assert (tmp_path / "started").exists() is works
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    assert run.info.status == ("FINISHED" if works else "FAILED")
    if not works:
        assert "conda stand-in: refused: " in result.stderr
        assert "pytest is" in run.data.tags["drone_cbf.failure"]
