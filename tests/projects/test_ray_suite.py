"""A suite on Ray: two tasks, one of which is killed while it trains; its child goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.resuming import latest_progress
from drone_cbf.tracking.runs.tracking_store import prepare_store
from tests.projects.small_pipeline import command_line, environment_of_runs
from tests.projects.test_suite import SMALL
from tests.projects.test_sweep import LONGEST, wait
from tests.stores import tracking

CURRICULUM = "name: {name}\nstages: [{{name: a, steps: 40, noise: 0.02, blend: 0.5, horizon: 20}}]\n"


def trained() -> list[Run]:
    return MlflowClient().search_runs(["0"], "tags.`drone_cbf.stage` = 'safety'")


def under_way() -> list[str]:
    """The trainings that have stored a state and are not over."""
    return [run.info.run_id for run in trained() if run.info.status == "RUNNING" and latest_progress(run.info.run_id)]


def ray_task_of(run_id: str) -> psutil.Process:
    """The process of Ray's above the stage that writes the run."""
    stage = int(MlflowClient().get_run(run_id).data.tags["drone_cbf.process"].split()[1])
    return next(above for above in psutil.Process(stage).parents() if above.name().startswith("ray::"))


@pytest.mark.slow
def test_a_task_whose_process_is_killed_is_replaced_and_its_child_goes_on(tmp_path: Path) -> None:
    places = []
    for name in ("one", "two"):
        places.append(tmp_path / f"{name}.yaml")
        places[-1].write_text(CURRICULUM.format(name=name))
    given = {**SMALL, "curricula": ",".join(map(str, places)), "seeds": "0,1", "workers": "2", "cluster": "ray"}
    output = tmp_path / "output.txt"
    with tracking(f"sqlite:///{tmp_path}/mlflow.db"), output.open("w") as file:
        prepare_store()
        suite = subprocess.Popen(
            command_line("suite", given), cwd=tmp_path, env=environment_of_runs({}), stdout=file, stderr=file
        )
        try:

            def one_has_stored_a_state() -> bool:
                assert suite.poll() is None, output.read_text()
                return bool(under_way())

            wait(one_has_stored_a_state)
            victim = under_way()[0]
            os.kill(ray_task_of(victim).pid, signal.SIGKILL)
            assert suite.wait(LONGEST) == 0, output.read_text()
        finally:
            suite.kill()
            suite.wait()
        told = output.read_text()
        assert told.count("was lost") == 1 and told.count("resumes run") == 1, told
        runs = trained()
        assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}, told
        again = MlflowClient().get_run(victim)
        assert again.data.tags["drone_cbf.resumed"] == "1", "with the other seed of its curriculum, as they began"
        for run in runs:
            steps = [one.step for one in MlflowClient().get_metric_history(run.info.run_id, "loss/total")]
            assert steps == list(range(40)), "every update once"
        (above,) = MlflowClient().search_runs(["0"], "tags.`drone_cbf.stage` = 'suite'")
        assert above.info.status == "FINISHED" and "comparison/one/success_rate" in above.data.metrics
        assert mlflow.artifacts.load_text(f"runs:/{above.info.run_id}/suite.json").count("run_id") == 10
