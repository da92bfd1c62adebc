"""What the gate decides, where it says so, and that nothing else makes a champion."""

from __future__ import annotations

import json
import math
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.cells import CELLS_FILE
from drone_cbf.tracking.registry.gates import PASSING_RUNS
from drone_cbf.tracking.runs.stage_run import StageRun
from projects.running.launch import launch
from tests.projects.test_running import last_run
from tests.projects.trained import SYSTEM, evaluate_run, evaluated, safety_run


def judged(experiment: str, *arguments: str, passes: bool = True) -> Run:
    """The run of ``gate``; the exit code must say whether it passed."""
    assert launch("gate", list(arguments)) == (0 if passes else 1)
    return last_run(experiment)


def verdict(run: Run) -> dict[str, object]:
    """gate.json of a run of ``gate``."""
    return json.loads((Path(urlparse(run.info.artifact_uri).path) / "gate.json").read_text())


def register(experiment: str, model: str, training: str, evaluation: str) -> str:
    """A version as ``register`` leaves it, without the model's files."""
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    tags = {"drone_cbf.training_run": training, "drone_cbf.evaluation_run": evaluation}
    version = client.create_model_version(model, source=f"runs:/{evaluation}/model", run_id=evaluation, tags=tags)
    client.set_registered_model_alias(model, "challenger", version.version)
    return str(version.version)


def aliases(model: str) -> dict[str, str]:
    return {name: str(number) for name, number in MlflowClient().get_registered_model(model).aliases.items()}


def test_a_run_that_passes_is_tagged_and_found_by_one_query(experiment: str) -> None:
    training, evaluation = evaluated(experiment)
    run = judged(experiment, f"--run={training}", "--model=none")
    client = MlflowClient()
    tags = client.get_run(evaluation).data.tags
    assert (tags["drone_cbf.gate"], tags["drone_cbf.gate_run"]) == ("passed", run.info.run_id)
    content = verdict(run)
    assert (content["verdict"], content["run"], content["champion_run"]) == ("passed", evaluation, None)
    assert len(content["checks"]) == 5 and all(check["kind"] == "absolute" for check in content["checks"])
    assert [found.info.run_id for found in client.search_runs([experiment], PASSING_RUNS)] == [evaluation]
    assert run.info.status == "FINISHED" and "### Gate: passed" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"eval/success_rate": 0.95}, "eval/success_rate = 0.95, wanted at least 0.98"),
        ({"eval/max_violation": math.nan}, "eval/max_violation = nan, wanted at most 2"),
        ({"eval/relax_rate": None}, "eval/relax_rate is missing"),
    ],
)
def test_a_run_that_does_not_pass_says_why_everywhere_and_fails(
    experiment: str, capsys: pytest.CaptureFixture[str], figures: dict[str, float], reason: str
) -> None:
    _, evaluation = evaluated(experiment, figures)
    run = judged(experiment, f"--run={evaluation}", "--model=none", passes=False)
    assert f"gate failed: run {evaluation} does not pass: {reason}" in capsys.readouterr().err
    tags = MlflowClient().get_run(evaluation).data.tags
    assert (tags["drone_cbf.gate"], tags["drone_cbf.gate_reason"]) == ("failed", reason)
    assert run.info.status == "FAILED" and reason in run.data.tags["drone_cbf.failure"]
    assert verdict(run)["verdict"] == "failed" and "### Gate: failed" in run.data.tags["mlflow.note.content"]
    assert MlflowClient().search_runs([experiment], PASSING_RUNS) == []


def test_only_what_passes_is_promoted_and_then_measured_against(experiment: str) -> None:
    client, model = MlflowClient(), "--model=contest"
    first = register(experiment, "contest", *evaluated(experiment))
    evaluation = client.get_model_version("contest", first).tags["drone_cbf.evaluation_run"]
    judged(experiment, f"--run={evaluation}", model)
    assert aliases("contest") == {"challenger": first}, "passing alone promotes nothing"
    judged(experiment, f"--run={evaluation}", model, "--promote=true")
    assert aliases("contest") == {"champion": first}
    assert client.get_model_version("contest", first).tags["drone_cbf.gate"] == "passed"

    worse, worse_run = evaluated(experiment, {"eval/success_rate": 0.9905, "eval/max_violation": 1.9})
    second = register(experiment, "contest", worse, worse_run)
    run = judged(experiment, f"--run={worse_run}", model, "--promote=true", passes=False)
    assert "wanted at least 0.9911 (champion, and worse by 0.005)" in run.data.tags["drone_cbf.failure"]
    assert verdict(run)["champion_run"] == evaluation
    assert aliases("contest") == {"champion": first, "challenger": second}

    third = register(experiment, "contest", *evaluated(experiment, {"eval/success_rate": 0.9925}))
    third_run = client.get_model_version("contest", third).tags["drone_cbf.evaluation_run"]
    judged(experiment, f"--run={third_run}", model, "--promote=true")
    assert aliases("contest") == {"champion": third}
    run = judged(experiment, "--champion=true", model)
    assert verdict(run)["run"] == third_run and verdict(run)["champion_run"] is None


def test_the_champion_must_have_flown_the_same_scenes(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    training, evaluation = evaluated(experiment)
    version = register(experiment, "scenes", training, evaluation)
    MlflowClient().set_registered_model_alias("scenes", "champion", version)
    _, other_run = evaluated(experiment, rollouts=64, seed=7)
    assert launch("gate", [f"--run={other_run}", "--model=scenes"]) == 1
    message = capsys.readouterr().err
    assert "rollouts = 64 here, 1024 there, seed = 7 here, 1000 there" in message
    assert f"mlflow run . -e evaluate -P parent_run={training} -P scenarios=" in message
    assert "-P rollouts=64 -P horizon=200 -P seed=7\n" in message, "what is left is to paste it"
    assert "drone_cbf.gate" not in MlflowClient().get_run(other_run).data.tags, "not judged"
    again = evaluate_run(experiment, training, {"eval/success_rate": 1.0}, rollouts=64, seed=7)
    run = judged(experiment, f"--run={other_run}", "--model=scenes")
    assert verdict(run)["champion_run"] == again, "a later evaluation of the champion under these conditions counts"


@pytest.mark.slow
def test_another_scene_section_is_another_condition_and_training_settings_are_not(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training, evaluation = evaluated(experiment)
    MlflowClient().set_registered_model_alias(
        "systems", "champion", register(experiment, "systems", training, evaluation)
    )
    scene = SYSTEM.scene.model_copy(update={"forest_spacing": 4.0})
    changed = evaluate_run(experiment, safety_run(experiment), system=SYSTEM.model_copy(update={"scene": scene}))
    assert launch("gate", [f"--run={changed}", "--model=systems"]) == 1
    assert "scene.forest_spacing = 4.0 here, 3.0 there" in capsys.readouterr().err
    physics = SYSTEM.physics.model_copy(update={"gradient_decay": 1.0})
    trained = evaluate_run(experiment, safety_run(experiment), system=SYSTEM.model_copy(update={"physics": physics}))
    judged(experiment, f"--run={trained}", "--model=systems")


def test_own_thresholds_are_read_from_a_file(experiment: str, tmp_path: Path) -> None:
    _, evaluation = evaluated(experiment)
    file = tmp_path / "strict.yaml"
    file.write_text("gates: [{metric: eval/max_violation, at_most: 0.05}]\n")
    run = judged(experiment, f"--run={evaluation}", "--model=none", f"--gates={file}", passes=False)
    assert [check["metric"] for check in verdict(run)["checks"]] == ["eval/max_violation"]


@pytest.mark.parametrize("recorded", ["before", "after"])
def test_any_figure_of_any_cell_can_be_a_threshold_whether_it_is_a_metric_or_in_the_table(
    experiment: str, tmp_path: Path, recorded: str
) -> None:
    """Evaluations of before logged every figure of every cell; those of after hold most of them in their table."""
    place, figures = "eval/forest/noise_0/trained", {"success_rate": 0.99, "mean_speed": 1.5, "time_to_goal": math.nan}
    logged = {
        f"{place}/{name}": value for name, value in figures.items() if recorded == "before" or name == "success_rate"
    }
    _, evaluation = evaluated(experiment, logged)
    cell = {"scene": "forest", "noise": 0.0, "goals": "trained", "filtered": True, **figures}
    StageRun(evaluation, experiment, "evaluate").log_table({name: [value] for name, value in cell.items()}, CELLS_FILE)
    file = tmp_path / "cells.yaml"
    limits = {"success_rate": 0.99, "mean_speed": 1.6, "time_to_goal": 0.0}
    file.write_text(
        json.dumps({"gates": [{"metric": f"{place}/{name}", "at_least": at} for name, at in limits.items()]})
    )
    run = judged(experiment, f"--run={evaluation}", "--model=none", f"--gates={file}", passes=False)
    assert [check["passed"] for check in verdict(run)["checks"]] == [True, False, False]
    assert verdict(run)["checks"][1]["value"] == 1.5
    assert verdict(run)["not_in_queries"] == [f"{place}/mean_speed", f"{place}/time_to_goal"]
    assert f"without `{place}/mean_speed`" in run.data.tags["mlflow.note.content"]


def test_own_thresholds_are_a_trial_that_tags_and_promotes_nothing(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, evaluation = evaluated(experiment, {"eval/success_rate": 0.5})
    file = tmp_path / "lenient.yaml"
    file.write_text("gates: [{metric: eval/success_rate, at_least: 0.1}]\n")
    lenient = judged(experiment, f"--run={evaluation}", "--model=none", f"--gates={file}")
    assert "drone_cbf.gate" not in MlflowClient().get_run(evaluation).data.tags
    assert launch("gate", [f"--run={evaluation}", "--model=none", f"--gates={file}", "--promote=true"]) == 1
    assert "promote goes by projects/gates.yaml alone" in capsys.readouterr().err
    shipped = judged(experiment, f"--run={evaluation}", "--model=none", passes=False)
    digests = [verdict(run)["gates_digest"] for run in (lenient, shipped)]
    assert digests[0] != digests[1] == MlflowClient().get_run(evaluation).data.tags["drone_cbf.gate_digest"]


def test_what_cannot_be_judged_is_refused_in_one_line_with_the_remedy(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training, evaluation = evaluated(experiment)

    def refused(*arguments: str) -> str:
        assert launch("gate", [*arguments, "--model=unknown"]) == 1
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        return shown

    assert "give one of run" in refused() and "give one of run" in refused(f"--run={training}", "--champion=true")
    assert "the champion is promoted already; leave champion out" in refused("--champion=true", "--promote=true")
    assert "unknown has no champion yet" in refused("--champion=true")
    assert f"register it first: mlflow run . -e register -P run={evaluation}" in refused(
        f"--run={training}", "--promote=true"
    )
    assert "champion = maybe is not true or false" in refused("--champion=maybe")
    assert "evaluate it first" in refused(f"--run={safety_run(experiment)}")
    assert "drone_cbf.gate" not in MlflowClient().get_run(evaluation).data.tags
    assert mlflow.active_run() is None
