from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.errors import CheckpointError
from drone_cbf.tracking.checkpoints.packages import read_package, write_package

TREE = {"policy": {"weight": jnp.arange(6.0).reshape(2, 3)}, "margin": jnp.float32(0.5)}
CONFIG = {"system": {"physics": {"lag_time": 0.1}}, "source": {"run": "abc"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_package(tmp_path / "policy", TREE, CONFIG)
    return tmp_path / "policy"


def test_what_is_written_is_read_back_wherever_the_folder_lies(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    package = read_package(moved)
    assert package.config == CONFIG
    np.testing.assert_array_equal(package.tree["policy"]["weight"], np.arange(6.0).reshape(2, 3))
    assert package.tree["margin"] == np.float32(0.5)


@pytest.mark.parametrize("damage", ["altered", "missing", "extra"])
def test_a_file_that_differs_from_the_manifest_is_refused(folder: Path, damage: str) -> None:
    files = [file for file in sorted((folder / "checkpoint").rglob("*")) if file.is_file()]
    if damage == "altered":
        files[0].write_bytes(files[0].read_bytes() + b" ")
    elif damage == "missing":
        files[0].unlink()
    else:
        (folder / "config.yaml.bak").write_text("x")
    with pytest.raises(CheckpointError, match="missing or altered .*register the policy again"):
        read_package(folder)


def test_an_altered_config_is_refused(folder: Path) -> None:
    (folder / "config.yaml").write_text("system: {}\n")
    with pytest.raises(CheckpointError, match="config.yaml in .* is missing or altered"):
        read_package(folder)


@pytest.mark.parametrize(
    ("manifest", "message"), [("", "missing or altered"), ("[]", "missing or altered"), ("later", "format 2")]
)
def test_a_manifest_that_cannot_be_read_is_refused(folder: Path, manifest: str, message: str) -> None:
    file = folder / "manifest.json"
    later = json.dumps({**json.loads(file.read_text()), "format": 2})
    file.write_text(later if manifest == "later" else manifest)
    with pytest.raises(CheckpointError, match=message):
        read_package(folder)
