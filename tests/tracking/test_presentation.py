from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient
from mlflow.utils.name_utils import _generate_random_name

from drone_cbf.config import SceneConfig
from drone_cbf.tracking.datasets import scene_dataset
from drone_cbf.tracking.runs.presentation import (
    EXPERIMENT,
    EXPERIMENT_NOTE,
    NOTE_TAG,
    is_random_name,
    name_default_experiment,
    name_run,
    own_experiment,
    present_experiment,
    unpadded,
)
from drone_cbf.tracking.runs.stage_run import StageRun
from tests.stores import tracking

SCENE = SceneConfig().model_dump(mode="json")


def test_an_experiment_is_described_once_and_a_persons_own_text_is_kept(experiment: str) -> None:
    client = MlflowClient()
    present_experiment(client, experiment)
    assert client.get_experiment(experiment).tags[NOTE_TAG] == EXPERIMENT_NOTE
    client.set_experiment_tag(experiment, NOTE_TAG, "ours")
    present_experiment(client, experiment)
    assert client.get_experiment(experiment).tags[NOTE_TAG] == "ours"


@pytest.fixture
def fresh_store(tmp_path: Path) -> Iterator[MlflowClient]:
    """A client of a store in which nothing has been done yet."""
    with tracking(f"sqlite:///{tmp_path}/mlflow.db"):
        yield MlflowClient()


def test_default_gets_the_projects_name_while_nobody_else_uses_it(fresh_store: MlflowClient) -> None:
    client = fresh_store
    client.create_run("0", tags={"drone_cbf.stage": "pipeline"})
    client.create_run("0", tags={"mlflow.project.entryPoint": "evaluate"})  # prepared, not started yet
    name_default_experiment(client, "1")
    assert client.get_experiment("0").name == "Default", "the run is in another experiment, which somebody chose"
    name_default_experiment(client, "0")
    assert client.get_experiment("0").name == EXPERIMENT
    assert own_experiment(client) == "0", "what is started without 'mlflow run' goes to the same experiment"


def test_default_keeps_its_name_where_another_project_has_runs_in_it(fresh_store: MlflowClient) -> None:
    client = fresh_store
    foreign = client.create_run("0")
    client.delete_run(foreign.info.run_id)
    name_default_experiment(client, "0")
    own = own_experiment(client)
    assert client.get_experiment("0").name == "Default" and client.get_experiment(own).name == EXPERIMENT
    name_default_experiment(client, "0")
    assert client.get_experiment("0").name == "Default", "of two experiments of one name MLflow would keep neither"


def test_a_table_without_its_padding_is_the_same_table() -> None:
    padded = "| figure   |   value |\n|:---------|--------:|\n| a        |       1 |"
    assert unpadded(padded) == "| figure | value |\n|:---|---:|\n| a | 1 |"


def test_the_names_that_mlflow_draws_are_recognised_and_no_others() -> None:
    assert all(is_random_name(_generate_random_name()) for _ in range(200))
    for name in ("safety-fast-seed0", "my-best-1", "bold-idea", "baseline", ""):
        assert not is_random_name(name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "toy-seed0"), ("toy", "toy-seed0"), ("my favourite", "my favourite"), ("bold-idea-2", "bold-idea-2")],
)
def test_a_run_is_named_unless_a_person_has_named_it(experiment: str, given: str | None, expected: str) -> None:
    client = MlflowClient()
    run_id = client.create_run(experiment, run_name=given).info.run_id
    name_run(client, run_id, "toy-seed0", replaceable="toy")
    assert client.get_run(run_id).info.run_name == expected


def test_images_of_one_key_form_a_series_over_steps(run: StageRun) -> None:
    figure = Figure(figsize=(2.0, 1.0), dpi=50)
    figure.add_subplot().plot([0, 1])
    run.log_image(figure, key="flights from above", step=10)
    run.log_image(np.zeros((4, 6, 3), np.uint8), key="flights from above", step=20)
    files = [file.path for file in MlflowClient().list_artifacts(run.run_id, "images")]
    for step in (10, 20):
        full = [file for file in files if f"+step+{step}+" in file and file.endswith(".png")]
        assert len(full) == 1 and full[0].startswith("images/flights from above+")
    assert MlflowClient().get_run(run.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_a_dataset_says_generator_settings_and_purpose(run: StageRun) -> None:
    run.log_dataset(scene_dataset(SCENE, ("forest", "fixed_ring"), 7, goals=["random"]), "training")
    (used,) = MlflowClient().get_run(run.run_id).inputs.dataset_inputs
    assert used.dataset.name == "forest+fixed_ring" and used.dataset.source_type == "code"
    assert '"seed": 7' in used.dataset.source and '"forest_length": 20.0' in used.dataset.source
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_the_digest_changes_with_everything_that_decides_the_scenes_and_with_nothing_else() -> None:
    known = scene_dataset(SCENE, ("forest",), 7, goals=["random"]).digest
    assert scene_dataset(dict(reversed(SCENE.items())), ["forest"], 7, goals=["random"]).digest == known
    others = [
        scene_dataset({**SCENE, "gust": 0.3}, ("forest",), 7, goals=["random"]),
        scene_dataset(SCENE, ("forest", "random_cloud"), 7, goals=["random"]),
        scene_dataset(SCENE, ("forest",), 8, goals=["random"]),
        scene_dataset(SCENE, ("forest",), 7, goals=["trained"]),
    ]
    assert len({known, *(other.digest for other in others)}) == 5
