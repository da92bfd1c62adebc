"""A stage under a real ``mlflow run`` that is ended from outside: none goes on by itself, and each can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.processes import state_of
from drone_cbf.tracking.runs.resuming import latest_progress
from drone_cbf.tracking.runs.tracking_store import prepare_store
from tests.stores import tracking

ROOT = Path(__file__).resolve().parents[2]
PROJECT = """\
name: p
entry_points:
  main:
    parameters: {{resume_run: {{default: ''}}}}
    command: {python} -m tests.projects.counting_stage --resume_run={{resume_run}}
"""


def start(folder: Path, *parameters: str) -> subprocess.Popen[str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "mlflow", "run", str(folder), "--env-manager", "local"]
    command += [word for parameter in parameters for word in ("-P", parameter)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    own: dict[str, Any] = dict(cwd=folder, env=kept, start_new_session=True, text=True, **pipes)
    return subprocess.Popen(command, **own)


def wait_for(found: object, what: str) -> None:
    deadline = time.monotonic() + 180.0
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["SIGTERM", "SIGKILL", "SIGHUP", "SIGINT", "closed pipe"])
def test_a_stage_ends_with_its_state_stored_whatever_happens_to_its_mlflow_run(tmp_path: Path, cause: str) -> None:
    (tmp_path / "MLproject").write_text(PROJECT.format(python=sys.executable))
    with tracking(f"sqlite:///{tmp_path}/mlflow.db"):
        prepare_store()
        client = MlflowClient()
        launched = start(tmp_path)
        wait_for(lambda: client.search_runs(["0"]), "no run")
        run_id = client.search_runs(["0"])[0].info.run_id
        wait_for(lambda: latest_progress(run_id), "no state")
        if cause == "closed pipe":
            assert launched.stdout is not None
            launched.stdout.close()
        else:
            launched.send_signal(signal.Signals[cause])
        wait_for(lambda: state_of(client.get_run(run_id).data.tags["drone_cbf.process"]) == "gone", "it went on")
        launched.wait(timeout=60)
        found = client.get_run(run_id)
        assert found.info.status in ("KILLED", "FAILED"), "as 'mlflow run' marks it, if it is still there"
        reason = {"closed pipe": "its output is closed"}.get(cause, "the process that started it has ended")
        told = found.data.tags["drone_cbf.failure"]
        assert told == f"interrupted ({reason})" or cause == "SIGINT", told
        assert told.startswith("interrupted (") and latest_progress(run_id)

        again = start(tmp_path, f"resume_run={run_id}")
        output = again.communicate(timeout=180)[0]
        assert again.returncode == 0, output
        assert [metric.step for metric in client.get_metric_history(run_id, "loss/total")] == list(range(300))
