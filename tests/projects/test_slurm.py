"""``mlflow run --backend slurm`` with a scheduler that runs each job at once, with the exported variables alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.runs.tracking_store import prepare_store
from tests.projects.small_pipeline import ROOT
from tests.stores import tracking

JOB = "4711"
SBATCH = f"""\
#!/bin/sh
# As Slurm: none of the caller's variables but those that the script exports.
set -- "$1" $(sed -n 's/^#SBATCH --export=//p' "$1" | tr ',' ' ')
script=$1; shift
for name in "$@"; do eval "value=\\${{$name-}}"; [ -z "$value" ] || given="$given $name=$value"; done
env -i HOME="$HOME" PATH=/usr/bin:/bin $given bash "$script" > slurm-{JOB}.out 2>&1 && echo CD > state || echo F > state
echo "Submitted batch job {JOB}"
"""
SQUEUE = f"#!/bin/sh\nprintf 'JOBID,ST\\n{JOB},%s\\n' $(cat state)\n"


@pytest.mark.slow
def test_a_stage_trains_in_its_own_run_as_a_job_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_of = Path(sys.executable).parent
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    settings = {"partition": "short", "time": "01:00:00", "mem": "8g"}
    settings |= {"environment": [f"PATH={bin_of}:$PATH", "JAX_DISABLE_MOST_OPTIMIZATIONS=true"]}
    (tmp_path / "slurm.json").write_text(json.dumps(settings))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    small = {"steps": "2", "batch": "2", "horizon": "5", "report_flights": "2", "policy.features": "8"}
    given = [word for name, value in small.items() for word in ("-P", f"{name}={value}")]
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "efficiency", *given]
    command += ["--backend", "slurm", "--backend-config", str(tmp_path / "slurm.json")]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = kept | {"PATH": f"{tmp_path}:{bin_of}:{os.environ['PATH']}", "MLFLOW_TRACKING_URI": uri}
    with tracking(uri):
        monkeypatch.chdir(tmp_path)
        prepare_store()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        told = (tmp_path / f"slurm-{JOB}.out").read_text()
        assert done.returncode == 0, done.stderr + told
        (run,) = MlflowClient().search_runs(["0"])
        assert run.info.status == "FINISHED" and run.data.params["policy.features"] == "8", told
        assert len(MlflowClient().get_metric_history(run.info.run_id, "loss/total")) == 2
    script = (tmp_path / f"sbatch-{run.info.run_id}.sh").read_text()
    assert {"#SBATCH --partition=short", "#SBATCH --mem=8g", "#SBATCH --time=01:00:00"} <= set(script.splitlines())
