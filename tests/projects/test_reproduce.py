"""A recorded run is repeated from what it stored, and compared at every step."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.config import BarrierConfig
from drone_cbf.errors import LineageError
from drone_cbf.tracking.runs.lineage import load_artifact
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.cli.arguments import build_system, parse
from projects.cli.stage_parameters import SafetyParameters
from projects.inputs.curriculum_files import load_curriculum
from projects.running.launch import launch
from projects.workflows.reproduce import read_recorded
from tests.projects.small_pipeline import ROOT
from tests.projects.test_running import last_run
from tests.projects.trained import SYSTEM

TINY = (
    *("--steps=2", "--batch=2", "--horizon=4", "--scenes=fixed_ring", "--seed=3", "--noise=0.0123456789"),
    *("--policy.features=8", "--policy.node_features=8", "--physics.lag_time=0.07"),
)


WHOLE = SYSTEM.model_dump(mode="json")
ONE_STAGE = json.dumps({"name": "then", "stages": [{"name": "a", "steps": 5, "violation_threshold": 0.1}]})


def recorded_run(experiment: str, stage: str, config: dict[str, object], **files: str) -> str:
    client = MlflowClient()
    run_id = client.create_run(experiment, tags={"drone_cbf.stage": stage}).info.run_id
    StageRun(run_id, experiment, stage).log_config(config)
    for name, text in files.items():
        client.log_text(run_id, text, f"{name}.json")
    client.set_terminated(run_id)
    return run_id


def test_every_stored_setting_comes_back_to_the_last_bit(experiment: str, tmp_path: Path) -> None:
    physics = SYSTEM.physics.model_copy(
        update={"lag_time": 0.1 + 0.2 - 0.25, "max_acceleration": (11.0, 1 / 3 + 11, 8.0)}
    )
    system = SYSTEM.model_copy(update={"physics": physics})
    parameters = SafetyParameters(parent_run="p", learning_rate=1e-7 / 3, scenes=("forest", "fixed_ring"), seed=9)
    config = {"parameters": parameters.model_dump(mode="json"), "system": system.model_dump(mode="json")}
    run_id = recorded_run(experiment, "safety", config, curriculum=ONE_STAGE)
    given = read_recorded(run_id).arguments(tmp_path)
    parsed = parse("safety", SafetyParameters, [f"--{name}={text}" for name, text in given.items()])
    file = given["curriculum"]
    assert parsed.parameters == parameters.model_copy(update={"curriculum": file})
    assert build_system(None, parsed.system) == system
    assert load_curriculum(file).name == "then", "the curriculum of then, not the file 'default' of today"


def test_what_the_recorded_run_did_not_know_yet_is_named_with_the_value_it_gets(experiment: str) -> None:
    parameters, system = SafetyParameters(parent_run="p").model_dump(mode="json"), SYSTEM.model_dump(mode="json")
    today = read_recorded(
        recorded_run(experiment, "safety", {"parameters": parameters, "system": system}, curriculum=ONE_STAGE)
    )
    assert today.newer == {}
    del parameters["learning_rate"], system["barrier"]["speed_tightening"]
    older = read_recorded(
        recorded_run(experiment, "safety", {"parameters": parameters, "system": system}, curriculum=ONE_STAGE)
    )
    tightening = str(BarrierConfig().speed_tightening)
    assert older.newer == {"learning_rate": "0.001", "barrier.speed_tightening": tightening}


@pytest.mark.parametrize(
    ("stage", "config", "message"),
    [
        (
            "pipeline",
            {"parameters": {}, "system": {}},
            "run .* is a run of stage pipeline, expected a finished efficiency",
        ),
        ("efficiency", {"parameters": {}}, "has no system: it does not say what was flown"),
        ("efficiency", {"parameters": {"stepz": 1}, "system": WHOLE}, "unknown parameter 'stepz'"),
        ("efficiency", {"parameters": {"steps": 0}, "system": WHOLE}, "steps = 0 is out of range"),
        ("safety", {"parameters": {"parent_run": "x"}, "system": WHOLE}, "has no readable curriculum.json"),
    ],
)
def test_a_run_that_cannot_be_repeated_is_refused_before_any_work(
    experiment: str, capsys: pytest.CaptureFixture[str], stage: str, config: dict[str, object], message: str
) -> None:
    run_id = recorded_run(experiment, stage, config)
    assert launch("reproduce", [f"--run={run_id}"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown and len(MlflowClient().search_runs([experiment])) == 2, "no child was started"
    assert re.search(message, shown), shown


def test_a_missing_curriculum_is_named(experiment: str) -> None:
    run_id = recorded_run(experiment, "safety", {"parameters": {"parent_run": "x"}, "system": WHOLE})
    with pytest.raises(LineageError, match=r"has no readable curriculum\.json"):
        read_recorded(run_id)


@pytest.mark.slow
def test_a_run_agrees_with_itself_to_the_last_bit_until_a_stored_figure_is_altered(
    experiment: str, store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In a process of its own, as users do: how many devices this one has was decided by the tests before.
    settings = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "projects.efficiency", *TINY], env=settings, check=True, timeout=600)
    recorded = last_run(experiment).info.run_id
    assert launch("reproduce", [f"--run={recorded}"]) == 0
    client = MlflowClient()
    (run,) = client.search_runs([experiment], "tags.`drone_cbf.stage` = 'reproduce'")
    assert (run.data.tags["drone_cbf.reproduction"], run.data.tags["drone_cbf.reproduces"]) == ("agrees", recorded)
    assert run.data.metrics["reproduction/disagreeing"] == 0.0 < run.data.metrics["reproduction/metrics"]
    note = run.data.tags["mlflow.note.content"]
    assert (
        "agree at every step" in note
        and "to the last bit" in note
        and "Commit, versions and device are the same" in note
    )
    (child,) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert child.data.params["seed"] == "3"
    assert child.data.metrics["loss/total"] == client.get_run(recorded).data.metrics["loss/total"]

    with sqlite3.connect(store_folder / "mlflow.db") as store:
        change = "UPDATE metrics SET value = value * (1 + 1e-12) WHERE run_uuid = ? AND key = 'loss/total' AND step = 1"
        assert store.execute(change, [recorded]).rowcount == 1
    assert launch("reproduce", [f"--run={recorded}", "--exact=always"]) == 1
    assert "1 of " in (shown := capsys.readouterr().err) and "loss/total (1 of 2, from step 1 on)" in shown
    (differing,) = client.search_runs([experiment], "tags.`drone_cbf.reproduction` = 'differs'")
    table = json.loads(load_artifact(differing.info.run_id, "tables/reproduction.json"))
    assert [row[0] for row in table["data"] if row[2]] == ["loss/total"]
    assert launch("reproduce", [f"--run={recorded}", "--exact=never"]) == 0, "within the stated tolerance"
