"""The examples run, and the public API that they use is documented."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

import drone_cbf
from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.reporting.figures.style import new_figure
from drone_cbf.serving.controller import STATUS_NAMES
from projects.inputs.curriculum_files import load_curriculum
from projects.running.launch import launch
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.projects.trained import evaluate_run, evaluated, safety_run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TINY = small_system(scene=few_obstacles(4))


def load(name: str) -> ModuleType:
    """The example as a module, without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", [*EXAMPLES, ROOT / "examples" / "own_curriculum.yaml"], ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    header = ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else text[:600]
    assert header and f"examples/{path.name}" in header, "the header names the command"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_uses_public_names_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in ("drone_cbf", "projects")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "drone_cbf":
            assert node.attr in drone_cbf.__all__


def test_every_public_name_exists_is_documented_and_stands_on_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(drone_cbf.__all__)
    for name in drone_cbf.__all__:
        value = getattr(drone_cbf, name)
        assert inspect.getdoc(value), name
        assert value.__module__ == f"drone_cbf.{drone_cbf._MODULES[name]}", "the table names where it is defined"
    with pytest.raises(AttributeError, match="no attribute 'flyy'; the public names are in docs/api.md"):
        drone_cbf.flyy  # noqa: B018


def test_type_checkers_see_the_names_that_are_there_at_run_time() -> None:
    tree = ast.parse((ROOT / "drone_cbf" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {node.names[0].asname: f"{node.module}" for node in block.body if isinstance(node, ast.ImportFrom)}
    assert seen == {name: f"drone_cbf.{module}" for name, module in drone_cbf._MODULES.items()}


def test_importing_the_package_is_light() -> None:
    heavy = "{'jax', 'numpy', 'mlflow', 'pydantic', 'pandas', 'matplotlib'}"
    code = f"import sys, drone_cbf; print(drone_cbf.__version__, sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"{drone_cbf.__version__} []"


def test_the_own_curriculum_is_accepted() -> None:
    curriculum = load_curriculum(str(ROOT / "examples" / "own_curriculum.yaml"))
    assert [stage.blend for stage in curriculum.stages] == [0.0, 0.5, 1.0, 1.0]
    assert curriculum.weights_in(curriculum.stages[-1])["cbf_hdot"] == 0.1


@pytest.fixture
def champion(experiment: str) -> str:
    """URI of a champion with random networks."""
    _, evaluation = evaluated(experiment)
    assert launch("register", [f"--run={evaluation}", "--model=example"]) == 0
    MlflowClient().set_registered_model_alias("example", "champion", "1")
    return "models:/example@champion"


@pytest.mark.slow
def test_the_champion_flies_in_a_loop(champion: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = load("fly")
    path = example.fly(champion, seconds=1.0, real_time=False)
    assert path.shape == (21, 3) and np.isfinite(path).all()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.split()[-1] in STATUS_NAMES for line in lines), lines
    served = mlflow.pyfunc.load_model(champion).unwrap_python_model()
    first = {"position": path[:1], "velocity": np.zeros((1, 3)), "goal": example.GOAL[None]}
    first |= {"points": example.surface_points(path[0])[None], "mask": np.ones((1, 2), bool)}
    system, controller = drone_cbf.load_controller(champion)
    answer = drone_cbf.PolicyService(system, controller)(first)
    np.testing.assert_allclose(answer["command"], served.answer(first)["command"], atol=1e-4)
    # The first command acts after one step, and moves the drone by LAG dt^2 in the step after.
    np.testing.assert_allclose(path[2] - path[1], example.LAG * 0.05**2 * answer["command"][0], atol=1e-6)


def test_the_example_of_an_own_scene_flies_its_slalom_with_and_without_the_filter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flights themselves are replaced; the slow test below flies them."""
    asked = []

    def fly(system, controller, scenes, *, filtered, noise, horizon):
        asked.append((controller, filtered, horizon, int(scenes[0].obstacles.active.sum())))
        metrics = SimpleNamespace(success=[False], collision=[filtered])
        return SimpleNamespace(metrics=metrics, clearance=np.full((1, 3), 0.25))

    monkeypatch.setattr(drone_cbf, "load_controller", lambda uri: (drone_cbf.SystemConfig(), uri), raising=False)
    monkeypatch.setattr(drone_cbf, "fly", fly, raising=False)
    monkeypatch.setattr(drone_cbf, "draw_flights", lambda *_, **__: new_figure(1.0, 1.0, "flight"), raising=False)
    pictures = load("own_scene").fly_both("models:/a/1", horizon=20, folder=str(tmp_path))
    assert asked == [("models:/a/1", filtered, 20, 7) for filtered in (True, False)]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures) and len(pictures) == 2
    told = capsys.readouterr().out
    assert "filter_on: goal collided, closest approach 0.25 m" in told and "filter_off: goal not reached" in told


@pytest.mark.slow
def test_the_champion_flies_through_a_scene_of_ones_own(
    champion: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = load("own_scene").fly_both(champion, horizon=20, folder=str(tmp_path))
    assert [picture.name for picture in pictures] == ["own_scene_filter_on.png", "own_scene_filter_off.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert "filter_off: goal not reached" in capsys.readouterr().out


def test_a_model_that_does_not_exist_is_one_clear_error(experiment: str) -> None:
    with pytest.raises(LineageError, match="models:/nothing/1 cannot be loaded .* register a policy"):
        drone_cbf.load_controller("models:/nothing/1")


def test_the_query_shows_the_latest_evaluation_of_each_curriculum_and_seed(experiment: str) -> None:
    example = load("query_runs")
    mine, other = "asked_for", "asked_for_too"  # no other test's curriculum: their runs may lie in the same store
    for curriculum, seed, success in ((mine, 0, 0.5), (mine, 1, 0.9), (other, 0, 0.7)):
        training = safety_run(experiment, seed, curriculum)
        MlflowClient().log_param(training, "seed", seed)
        evaluate_run(experiment, training, {"eval/success_rate": success - 0.1})
        evaluate_run(experiment, training, {"eval/success_rate": success})
    cells = example.table()
    cells = cells[cells["curriculum"].isin([mine, other])]
    assert cells[["curriculum", "seed", "success"]].to_numpy().tolist() == [
        [mine, "0", 0.5],
        [mine, "1", 0.9],
        [other, "0", 0.7],
    ]
    assert (cells["violation [m/s]"] == 0.63).all()


def test_a_scene_of_ones_own_fills_the_slots_and_refuses_what_does_not_fit() -> None:
    points = {"start": (0.0, 0.0, 1.0), "goal": (4.0, 0.0, 1.0)}
    scene = drone_cbf.make_scene(TINY, centre=[[1.0, 2.0, 3.0], [2.0, 2.0, 3.0]], radius=0.5, **points)
    assert scene.obstacles.active.tolist() == [True, True, False, False]
    assert scene.obstacles.capsules.centre[:2].tolist() == [[1.0, 2.0, 3.0], [2.0, 2.0, 3.0]]
    assert scene.obstacles.capsules.radius[:2].tolist() == [0.5, 0.5] and scene.goal.tolist() == [4.0, 0.0, 1.0]
    for wrong, message in (
        ({"centre": np.zeros((5, 3)), "radius": 1.0}, "5 obstacles, but scene.obstacles = 4; raise scene.obstacles"),
        ({"centre": np.zeros((2, 2)), "radius": 1.0}, r"centre has shape \(2, 2\), expected \(2, 3\)"),
        ({"centre": np.zeros((2, 3)), "radius": [1.0, 1.0, 1.0]}, r"radius has shape \(3,\), expected \(2,\)"),
        ({"centre": np.full((1, 3), np.nan), "radius": 1.0}, "centre holds a value that is not finite"),
    ):
        with pytest.raises(ConfigError, match=message):
            drone_cbf.make_scene(TINY, **points, **wrong)


def test_the_training_example_passes_each_stage_what_the_one_before_has_learned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stages themselves are replaced; the slow test below runs them."""
    policy, barrier = random_policy(TINY), random_barrier(TINY)

    def efficiency(system, settings, recorder):
        recorder.metrics(0, {"loss/total": 2.0})
        return SimpleNamespace(policy=policy, report={"success_rate": 0.5, "collision_rate": 0.25})

    def pretraining(system, settings, given, recorder):
        assert given is policy and settings.steps == 20
        return SimpleNamespace(barrier=barrier, margin=0.25)

    def safety(system, settings, given, taught, margin, recorder):
        assert given is policy and taught is barrier and settings.curriculum.stages[0].horizon == 7
        return SimpleNamespace(policy=given, barrier=taught, margin=margin)

    for name, stage in (("train_efficiency", efficiency), ("pretrain_barrier", pretraining), ("train_safety", safety)):
        monkeypatch.setattr(drone_cbf, name, stage, raising=False)
    controller = load("train").train(TINY, steps=2, batch=3, horizon=7, flights=4)
    assert controller.policy is policy and float(controller.margin) == 0.25
    assert "1 updates: success 50%, collisions 25%" in capsys.readouterr().out


@pytest.mark.slow
def test_the_training_example_trains_and_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drone_cbf.barrier.calibration.BOUNDARY", np.inf)  # so few flights may stay far from obstacles
    example = load("train")
    controller = example.train(TINY, steps=2, batch=3, horizon=12, flights=4)
    cells = example.evaluate(TINY, controller, horizon=12, flights=4)
    assert len(cells) == 4 and set(cells["filtered"]) == {True, False}
    assert np.isfinite(cells[["success_rate", "collision_rate"]].to_numpy()).all()


def test_the_example_of_many_environments_arrives_more_often_than_it_collides() -> None:
    figures = load("gymnasium_flights").fly("fixed_ring", drones=8, steps=150)
    assert figures["episodes"] >= 8 and figures["arrived"] > figures["collided"]
