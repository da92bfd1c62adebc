"""A sweep as people run it: killed in the middle and resumed, with two workers, every trial once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.runs.tracking_store import prepare_store
from drone_cbf.tracking.studies.trials import Trial, read_trials
from projects.running.launch import launch
from tests.projects.small_pipeline import ROOT, command_line, environment_of_runs, mlflow_run
from tests.stores import tracking

SIZES = """
pipeline: {efficiency_steps: 1, pretrain_steps: 1, batch: 3, horizon: 30, report_flights: 6, rollouts: 6,
           scenes: [random_cloud], scenarios: [random_cloud]}
"""
SPACE = """
name: tiny
objective: {metric: eval/final_distance_mean, direction: minimize}
begins: safety
given: {policy.features: 16, barrier.features: 8, evaluate.noise: "0", evaluate.goals: random}
space:
  safety.learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  filter.penalty: {type: float, low: 30.0, high: 30000.0, log: true}
"""
LONGEST = 600.0


@dataclass(frozen=True)
class Killed:
    """A sweep that was killed in the middle and has been resumed to its end."""

    run: Run
    before: list[Trial]
    """When it was killed."""
    after: list[Trial]
    output: str
    """Of the resumed one."""


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not until():
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.yaml").write_text((ROOT / "tests" / "projects" / "small.yaml").read_text() + SIZES)
    (folder / "space.yaml").write_text(SPACE)
    with tracking(f"sqlite:///{folder}/mlflow.db"):
        prepare_store()  # the test and the sweep would create it at once
        run_id = kill_in_the_middle(folder)
        before = read_trials(run_id, "0")
        wait(lambda: all(trial.state != "under way" or trial.is_abandoned for trial in read_trials(run_id, "0")))
        result = mlflow_run(folder, "sweep", {"resume_run": run_id})
        output = result.stdout + result.stderr
        assert result.returncode == 0, output
        yield Killed(MlflowClient().get_run(run_id), before, read_trials(run_id, "0"), output)


def kill_in_the_middle(folder: Path) -> str:
    """Starts a sweep, and kills it when one trial is done and another is under way; its run."""
    given = {"space": f"{folder}/space.yaml", "curriculum": f"{folder}/small.yaml", "trials": "4", "workers": "2"}
    given |= {"register": "true", "pruner": "none"}
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command_line("sweep", given), cwd=folder, env=environment_of_runs({}), stdout=output, stderr=output
        )
        try:
            wait(lambda: bool(sweeps()))

            def is_in_the_middle() -> bool:
                assert process.poll() is None, (folder / "output.txt").read_text()
                states = [trial.state for trial in read_trials(sweeps()[0].info.run_id, "0")]
                return "done" in states and "under way" in states

            wait(is_in_the_middle)
            sweep = sweeps()[0]
            name = sweep.data.tags["drone_cbf.process"]
            os.kill(int(name.split()[1]), signal.SIGKILL)
            wait(lambda: state_of(name) == "gone")
        finally:
            process.kill()
            process.wait()
    return sweep.info.run_id


def sweeps() -> list[Run]:
    return MlflowClient().search_runs(["0"], "tags.`drone_cbf.stage` = 'sweep'")


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
class TestKilledSweep:
    def test_it_ends_with_every_trial_done_once_and_repeats_none_that_was_done(self, killed: Killed) -> None:
        assert killed.run.info.status == "FINISHED"
        assert [(trial.number, trial.state) for trial in killed.after] == [(place, "done") for place in range(4)]
        done = {trial.run_id: trial for trial in killed.before if trial.state == "done"}
        assert done and all(trial == done.get(trial.run_id, trial) for trial in killed.after)
        values = {trial.number: trial.params for trial in killed.before}
        assert all(trial.params == values.get(trial.number, trial.params) for trial in killed.after)
        assert len({json.dumps(trial.params) for trial in killed.after}) == 4, "the workers draw different values"

    def test_each_trial_holds_its_own_stages_trained_with_its_values(self, killed: Killed) -> None:
        client = MlflowClient()
        for trial in killed.after:
            nested = client.search_runs(["0"], f"tags.mlflow.parentRunId = '{trial.run_id}'")
            finished = {run.data.tags["drone_cbf.stage"]: run for run in nested if run.info.status == "FINISHED"}
            assert finished.keys() == {"safety", "evaluate"}
            training = finished["safety"]
            assert trial.attributes["training"] == training.info.run_id
            for name, text in trial.params.items():
                assert float(training.data.params[name.removeprefix("safety.")]) == float(text)
            assert trial.value == finished["evaluate"].data.metrics["eval/final_distance_mean"]
            reported = client.get_metric_history(trial.run_id, "intermediate_value")
            measured = client.get_metric_history(training.info.run_id, "eval/final_distance_mean")
            assert {(one.step, one.value) for one in reported} <= {(one.step, one.value) for one in measured}
        shared = [
            run for run in MlflowClient().search_runs(["0"]) if run.data.tags.get("drone_cbf.stage") == "efficiency"
        ]
        assert len(shared) == 1, "what the trials share is trained once"

    def test_page_figures_and_table_are_there_and_the_best_trial_is_registered(self, killed: Killed) -> None:
        client, run_id = MlflowClient(), killed.run.info.run_id
        best = min(killed.after, key=lambda trial: trial.value or 0.0)
        assert killed.run.data.metrics["sweep/best"] == best.value
        figures = {file.path for file in client.list_artifacts(run_id, "figures")}
        assert {f"figures/{name}.png" for name in ("course", "importance", "parallel_coordinates", "slices")} <= figures
        page = mlflow.artifacts.load_text(f"runs:/{run_id}/sweep/sweep.html")
        assert all(trial.run_id in page for trial in killed.after) and page.count("<img ") == 4
        (version,) = client.search_model_versions("name = 'drone-policy'")
        assert version.tags["drone_cbf.evaluation_run"] == best.attributes["evaluation"]
        assert "the gate does not promote it: run" in killed.run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": "fats"}, "space = fats does not exist"),
        ({"curriculum": "fats"}, "curriculum 'fats' does not exist"),
        ({"parent_run": "nothing"}, "parent_run 'nothing' was not found"),
        ({"workers": "0"}, "workers = 0 is out of range (allowed: >= 1, <= 64)"),
    ],
)
def test_bad_input_fails_before_any_work(
    experiment: str, capsys: pytest.CaptureFixture[str], arguments: dict[str, str], message: str
) -> None:
    assert launch("sweep", [f"--{name}={text}" for name, text in arguments.items()]) == 1
    assert message in capsys.readouterr().err
    (run,) = MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED" and message in run.data.tags["drone_cbf.failure"]
