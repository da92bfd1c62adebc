"""A small exported policy, and how to ask it where this package cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from drone_cbf.exporting.folder import write_folder
from drone_cbf.serving.service import PolicyService
from tests.serving.controllers import averaging_controller
from tests.serving.services import ANALYTIC, SYSTEM

SLOTS = 6
ALONE = """
import json, sys
sys.modules["drone_cbf"] = sys.modules["mlflow"] = None  # whatever is installed: importing them fails
{forbidden}
from drone_policy import Policy
policy, memory, answers = Policy(".", "{form}"), None, []
for fields in json.loads(sys.stdin.read()):
    answer, memory = policy(memory, **fields)
    answers.append({{name: value.tolist() for name, value in answer.items()}})
print(json.dumps(answers))
"""
"""Asks the policy of this folder step by step."""


def averaging_service() -> PolicyService:
    """Quickly traced; its answers depend on positions and on a whole number that it remembers."""
    return PolicyService(SYSTEM, ANALYTIC, averaging_controller())


def written(folder: Path, form: str, service: PolicyService | None = None, slots: int = SLOTS) -> Path:
    write_folder(folder, SYSTEM, service or averaging_service(), slots, (form,), "models:/small/1")
    return folder


def flight(steps: int, batch: int = 1, speed: float = 30.0) -> list[dict[str, Any]]:
    """Observations far from the world's origin, fast enough to leave the reach of an anchor."""
    rng = np.random.default_rng(4)
    start = np.array([4e5, 5e6, 100.0]) + rng.normal(size=(batch, 3))
    fields = []
    for step in range(steps):
        position = start + step * np.array([speed, 0.0, 0.0])
        own = {"position": position, "velocity": rng.normal(size=(batch, 3)), "goal": start + 7.0}
        cloud = {"points": position[:, None] + rng.normal(size=(batch, 4, 3)), "mask": rng.random((batch, 4)) > 0.3}
        fields.append({**own, **cloud})
    return fields


def served(service: PolicyService, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of the service to the same flight, memories handed back."""
    answers: list[dict[str, Any]] = []
    for fields in asked:
        memory = {"memory": answers[-1]["memory"]} if answers else {}
        answers.append(dict(service({**fields, **memory})))
    return answers


def asked_alone(folder: Path, form: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of another process, to which only numpy and the form's runtime are open."""
    forbidden = 'sys.modules["onnxruntime"] = None' if form == "stablehlo" else 'sys.modules["jax"] = None'
    plain = [{name: np.asarray(value).tolist() for name, value in fields.items()} for fields in asked]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(form=form, forbidden=forbidden)],
        cwd=folder, env=environment, input=json.dumps(plain), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
