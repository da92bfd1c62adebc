"""A sweep on Ray: two tasks, the process of one killed in the middle; every trial is done, once."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from drone_cbf.tracking.runs.tracking_store import prepare_store
from drone_cbf.tracking.studies.trials import Trial, read_trials
from tests.projects.small_pipeline import ROOT, command_line, environment_of_runs
from tests.projects.test_sweep import LONGEST, SIZES, SPACE, sweeps, wait
from tests.stores import tracking


def under_way() -> list[Trial]:
    return [trial for trial in read_trials(sweeps()[0].info.run_id, "0") if trial.state == "under way"]


def process_of(trial: Trial) -> psutil.Process:
    """The process that carries out the trial."""
    return psutil.Process(int(trial.attributes["worker"].split()[1]))


@pytest.mark.slow
def test_a_task_whose_process_is_killed_is_replaced_and_its_trial_goes_on(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text((ROOT / "tests" / "projects" / "small.yaml").read_text() + SIZES)
    (tmp_path / "space.yaml").write_text(SPACE)
    given = {"space": f"{tmp_path}/space.yaml", "curriculum": f"{tmp_path}/small.yaml", "trials": "4", "workers": "2"}
    output = tmp_path / "output.txt"
    with tracking(f"sqlite:///{tmp_path}/mlflow.db"), output.open("w") as file:
        prepare_store()
        sweep = subprocess.Popen(
            command_line("sweep", {**given, "pruner": "none", "cluster": "ray"}),
            cwd=tmp_path, env=environment_of_runs({}), stdout=file, stderr=file,
        )  # fmt: skip
        try:
            wait(lambda: bool(sweeps()))

            def both_are_under_way() -> bool:
                assert sweep.poll() is None, output.read_text()
                return len(under_way()) == 2

            wait(both_are_under_way)
            victim = under_way()[0]
            task = process_of(victim).parent()
            assert task is not None and task.name().startswith("ray::"), task
            os.kill(task.pid, signal.SIGKILL)
            assert sweep.wait(LONGEST) == 0, output.read_text()
        finally:
            sweep.kill()
            sweep.wait()
        (run,) = sweeps()
        trials = read_trials(run.info.run_id, "0")
    assert run.info.status == "FINISHED" and [trial.state for trial in trials] == 4 * ["done"], output.read_text()
    again = next(trial for trial in trials if trial.run_id == victim.run_id)
    assert again.params == victim.params and again.attributes["begun"] == 2
    assert output.read_text().count("was lost") == 1
