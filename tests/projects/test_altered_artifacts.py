"""Artifacts that are whole (their manifest fits) but say what no training leaves: refused by name, never flown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from mlflow.tracking import MlflowClient

from drone_cbf.api.registered_policies import unpack
from drone_cbf.errors import CheckpointError, DroneCbfError, LineageError
from drone_cbf.recorder import ListRecorder
from drone_cbf.tracking.checkpoints.packages import Package, to_leaves, verify
from drone_cbf.tracking.checkpoints.store import save_checkpoint
from drone_cbf.tracking.queries import evidence, records
from drone_cbf.tracking.runs import lineage
from drone_cbf.tracking.runs.lineage import Parent, load_config, resolve_parent
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.cli.stage_parameters import EvaluateParameters
from projects.running import trained_networks
from projects.running.launch import launch
from projects.running.stage_runner import Stage
from projects.stages.evaluate import load_controller
from tests.projects.trained import SYSTEM, controller, evaluate_run, safety_run

CONFIG = {"system": SYSTEM.model_dump(mode="json")}
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def whole() -> Tree:
    """The arrays of a controller by name, as a checkpoint gives them."""
    tree: Tree = {}
    for path, leaf in to_leaves(controller()).items():
        place = tree
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = leaf
    return tree


def with_first_leaf(part: str, value: float) -> Callable[[Tree], Tree]:
    """The tree with one number of ``part`` replaced."""

    def change(tree: Tree) -> Tree:
        leaves, structure = jax.tree.flatten(tree[part])
        leaves = [leaf.copy() for leaf in leaves]
        leaves[0].flat[0] = value
        return {**tree, part: jax.tree.unflatten(structure, leaves)}

    return change


def with_(name: str, value: Any) -> Callable[[Tree], Tree]:
    return lambda tree: {**tree, name: value}


VOID: dict[str, tuple[Callable[[Tree], Tree], str]] = {
    "margin NaN": (
        with_("margin", np.float32("nan")),
        "margin of .* is nan, expected 0 to 50: the certificate is void",
    ),
    "margin infinite": (with_("margin", np.float32("inf")), "margin of .* is inf, expected 0 to 50"),
    "margin -1e9": (with_("margin", np.float32(-1e9)), "margin of .* is -1e.09, expected 0 to 50"),
    "margin of two": (with_("margin", np.zeros(2, np.float32)), r"margin.* is float32\[2\], expected"),
    "margin a mapping": (with_("margin", {"a": np.float32(0.0)}), "margin"),
    "barrier NaN": (with_first_leaf("barrier", np.nan), "leaf .* of .* holds nan, expected finite numbers"),
    "policy 1e30": (with_first_leaf("policy", 1e30), "leaf .* of .* holds 1e.30, expected finite numbers up to 1e.06"),
    "policy a number": (with_("policy", np.float32(1.0)), "policy"),
    "barrier gone": (with_("barrier", {}), "barrier|leaf"),
}


@pytest.mark.parametrize("case", VOID)
def test_a_void_certificate_is_neither_served_nor_flown(
    whole: Tree, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = VOID[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        unpack(Package(tree=change(whole), config=CONFIG))
    assert str(caught.value).isprintable()
    monkeypatch.setattr(trained_networks, "load_checkpoint", lambda run_id, name: change(whole))
    monkeypatch.setattr(trained_networks, "find", lambda run_id, part: run_id)
    stage = Stage(None, None, SYSTEM, {}, Parent("r", "safety", CONFIG), ListRecorder(), ListRecorder())
    with pytest.raises(CheckpointError, match=message):
        trained_networks.load_barrier(stage)
        trained_networks.load_policy(stage)


def test_what_a_training_leaves_is_loaded(whole: Tree) -> None:
    system, params = unpack(Package(tree=whole, config=CONFIG))
    assert system == SYSTEM and float(params.margin) == float(controller().margin)
    with pytest.raises(CheckpointError, match="blend of the registered policy is 7, expected 0 to 1"):
        unpack(Package(tree={**whole, "blend": np.float32(7.0)}, config=CONFIG))


def group(name: str, value: Any) -> dict[str, Any]:
    return {"system": {**CONFIG["system"], name: value}}


CONFIGS: dict[str, tuple[Any, str]] = {
    "empty": ({}, "has no system: it does not say what was flown"),
    "null": ({"system": None}, "no system|system is None"),
    "no groups": ({"system": {}}, "says nothing of physics"),
    "a list": ({"system": [1]}, "a system that is a list|system is .1., expected settings"),
    "a text": ({"system": "x"}, "a system that is a str|system is 'x', expected settings"),
    "a group null": (group("barrier", None), "says nothing of barrier"),
    "a group a list": (group("filter", [1]), "says nothing of filter"),
    "a group empty": (group("sensor", {}), "says nothing of sensor"),
    "out of range": (group("physics", {"lag_time": 7.0}), "system: physics.lag_time = 7.0: Input should be less"),
    "unknown": (group("physics", {"lag_tme": 0.1}), "system: physics.lag_tme is unknown; did you mean lag_time"),
    "no mapping": ([1], "it holds no settings|has no system"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_does_not_say_what_was_flown_is_refused(
    whole: Tree, case: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, message = CONFIGS[case]
    with pytest.raises(CheckpointError, match=message):
        unpack(Package(tree=whole, config=config))
    run_id = MlflowClient().create_run(experiment, tags={"drone_cbf.stage": "safety"}).info.run_id
    MlflowClient().set_terminated(run_id)
    monkeypatch.setattr(lineage, "load_artifact", lambda run_id, name: yaml.safe_dump(config))
    with pytest.raises(DroneCbfError, match=f"config.yaml of run {run_id}.*{message}.*another") as caught:
        resolve_parent(run_id, ["safety"])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["a: [", "{" * 5000, "a: 1\na: 2", "parameters: [1]", "parameters:", "- 1"])
def test_a_config_that_cannot_be_read_is_refused_in_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "load_artifact", lambda run_id, name: text)
    with pytest.raises(LineageError, match="config.yaml of run r is not valid.*name another run") as caught:
        load_config("r")
    assert str(caught.value).isprintable()


def a_folder(manifest: Path) -> None:
    manifest.unlink()
    manifest.mkdir()


MANIFESTS: dict[str, Callable[[Path], Any]] = {
    "not UTF-8": lambda file: file.write_bytes(b'{"files": "\xff"}'),
    "deep": lambda file: file.write_text("[" * 100_000),
    "a folder": a_folder,
    "no mapping": lambda file: file.write_text("[1]"),
    "files a number": lambda file: file.write_text(json.dumps({"format": 1, "files": 7})),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_none_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    MANIFESTS[case](tmp_path / "manifest.json")
    with pytest.raises(CheckpointError, match="manifest.json is missing or altered; repeat it"):
        verify(tmp_path, str, "repeat it")


def test_a_link_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "files": {}}))
    (tmp_path / "array").symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="array is a link"):
        verify(tmp_path, str, "repeat it")


def test_evaluate_and_register_end_with_one_line_and_leave_no_version(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training, trained = safety_run(experiment), controller()
    evaluation = evaluate_run(experiment, training)
    void = {"policy": trained.policy, "barrier": trained.barrier, "margin": np.float32("nan")}
    save_checkpoint(training, "final", void)  # with a manifest that fits
    capsys.readouterr()
    for stage, argument in (("evaluate", f"--parent_run={training}"), ("register", f"--run={evaluation}")):
        assert launch(stage, [argument]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{stage} failed: margin of the barrier's checkpoint is nan") and "void" in line
    assert not MlflowClient().search_model_versions("name = 'drone-policy'")


def test_an_ancestry_that_loops_is_refused_before_any_work(experiment: str) -> None:
    training = safety_run(experiment)
    MlflowClient().set_tag(training, "drone_cbf.parent_run", training)
    with pytest.raises(LineageError, match=f"run {training} is its own ancestor; its tag .* was altered, correct it"):
        resolve_parent(training, ["safety"])


def test_an_evaluation_without_figures_is_not_registered(experiment: str) -> None:
    training = safety_run(experiment)
    run_id = MlflowClient().create_run(experiment, tags={"drone_cbf.parent_run": training}).info.run_id
    StageRun(run_id, experiment, "evaluate").log_config({"parameters": {}, **CONFIG})
    with pytest.raises(
        LineageError, match=f"run {run_id} holds no figures of an evaluation; evaluate again: mlflow run"
    ):
        evidence.evaluated_policy(MlflowClient().get_run(run_id))


@pytest.mark.parametrize("path", ["../../meta.yaml", "/etc/hostname", "a/../../b", "absent/file"])
def test_no_artifact_path_leads_out_of_a_run(experiment: str, path: str) -> None:
    run_id = MlflowClient().create_run(experiment).info.run_id
    assert records.artifact(run_id, path) is None


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, '{"columns": 1, "data": 2}', "[1]", '{"columns": ["a"], "data": [[]]}']
)
def test_a_table_that_is_none_is_refused_by_name(experiment: str, text: str) -> None:
    run_id = MlflowClient().create_run(experiment).info.run_id
    MlflowClient().log_text(run_id, text, "tables/cells.json")
    with pytest.raises(LineageError, match=f"tables/cells.json of run {run_id} .*repeat that run"):
        records.table(run_id, "tables/cells.json")


def test_the_evaluated_controller_is_loaded(experiment: str) -> None:
    training = safety_run(experiment)
    parameters = EvaluateParameters(parent_run=training)
    stage = Stage(None, parameters, SYSTEM, {}, resolve_parent(training, ["safety"]), ListRecorder(), ListRecorder())
    assert float(load_controller(stage).margin) == float(controller().margin)
