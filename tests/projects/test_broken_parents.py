"""A parent that finished, but whose checkpoint is gone or damaged: the stage says so in one line and trains nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow.tracking import MlflowClient

from projects.running.launch import launch
from tests.projects.trained import safety_run

PARENT_OF = {"pretrain_cbf": "efficiency", "safety": "safety", "evaluate": "safety"}
"""Stage -> a stage that its parent may be of."""


def lose_all(folder: Path) -> None:
    shutil.rmtree(folder)


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def break_manifest(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])


def alter_a_file(folder: Path) -> None:
    file = folder / "_METADATA"
    file.write_bytes(file.read_bytes() + b"x")


REMEDY = "repeat that run, or name another one"
DAMAGES: dict[Callable[[Path], None], str] = {
    lose_all: f"checkpoints/final of run {{run}} does not exist; {REMEDY}",
    lose_manifest: f"checkpoints/final of run {{run}} is incomplete (manifest.json is missing); {REMEDY}",
    break_manifest: "checkpoints/final/manifest.json of run {run} is missing or altered; repeat that run",
    alter_a_file: "checkpoints/final/_METADATA of run {run} is missing or altered",
}
CASES = [(stage, lose_all) for stage in PARENT_OF] + [("evaluate", damage) for damage in DAMAGES if damage != lose_all]


@pytest.mark.parametrize(("stage", "damage"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_a_parent_without_a_whole_checkpoint_is_refused_in_one_line_and_fails_the_run(
    experiment: str, capsys: pytest.CaptureFixture[str], stage: str, damage: Callable[[Path], None]
) -> None:
    client, parent = MlflowClient(), safety_run(experiment)
    client.set_tag(parent, "drone_cbf.stage", PARENT_OF[stage])
    damage(Path(urlparse(client.get_run(parent).info.artifact_uri).path) / "checkpoints" / "final")
    capsys.readouterr()

    assert launch(stage, [f"--parent_run={parent}"]) == 1

    message = DAMAGES[damage].format(run=parent)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{stage} failed: {message}")
    (run,) = [run for run in client.search_runs([experiment]) if run.info.run_id != parent]
    assert run.info.status == "FAILED"
    assert line == f"{stage} failed: {run.data.tags['drone_cbf.failure']}"
    assert "drone_cbf.provides" not in run.data.tags
    assert client.list_artifacts(run.info.run_id, "checkpoints") == []
