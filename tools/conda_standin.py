"""Answers the calls by which ``mlflow run`` prepares an environment, where no conda is installed.

MLflow calls ``conda --help``, ``conda env list --json`` and ``conda env create -n NAME --file conda.yaml``, then
sources ``activate``, which is the virtual environment's own. This program therefore creates nothing: it checks that the
virtual environment satisfies conda.yaml, and refuses everything else.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

REMEDY = "run 'make install' in the project's folder, or install conda"


def main(arguments: list[str]) -> int:
    if arguments == ["--help"]:
        print(
            "conda stand-in of drone_cbf: lets 'mlflow run' use the active virtual environment. No conda is installed."
        )
        return 0
    if arguments == ["env", "list", "--json"]:
        print('{"envs": []}')
        return 0
    if arguments[:2] == ["env", "create"] and "--file" in arguments[:-1]:
        return create(Path(arguments[arguments.index("--file") + 1]))
    say(f"refuses 'conda {' '.join(arguments)}': it only serves 'mlflow run'; install conda for anything else")
    return 2


def create(conda_yaml: Path) -> int:
    """Checks the running virtual environment in place of creating one."""
    reason = unsatisfied(conda_yaml)
    if reason is not None:
        say(f"refused: {reason}; {REMEDY}")
        fail_waiting_run(reason)
        return 1
    return 0


def unsatisfied(conda_yaml: Path) -> str | None:
    """Why this environment must not stand in for ``conda_yaml``, or None."""
    if sys.prefix == sys.base_prefix:
        return f"{sys.prefix} is not a virtual environment"
    try:
        from pins import conda_mismatches

        problems = conda_mismatches(conda_yaml)
    except (ImportError, OSError, KeyError, ValueError) as error:
        return f"{conda_yaml} cannot be checked ({error})"
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"{sys.prefix} differs from the pins: {', '.join(problems[:3])}{more}" if problems else None


def fail_waiting_run(reason: str) -> None:
    """Ends the run that MLflow created for this call: MLflow itself would leave it RUNNING for ever.

    The call does not name its run. It is a conda run of this user, created since the calling process started, in which
    no stage has begun; only when exactly one run fits is it touched.
    """
    try:
        import psutil
        from mlflow import MlflowClient

        client = MlflowClient()
        since = int(psutil.Process(os.getppid()).create_time() * 1000)
        query = (
            f"attributes.status = 'RUNNING' and attributes.start_time >= {since} "
            f"and tags.`mlflow.project.env` = 'conda' and tags.`mlflow.user` = '{getpass.getuser()}'"
        )
        found = client.search_runs([e.experiment_id for e in client.search_experiments()], query)
        waiting = [run.info.run_id for run in found if "drone_cbf.stage" not in run.data.tags]
        if len(waiting) == 1:
            client.set_tag(waiting[0], "drone_cbf.failure", f"{reason}; {REMEDY}"[:5000])
            client.set_terminated(waiting[0], "FAILED")
        else:
            say(f"{len(waiting)} runs may be this one; MLflow leaves it RUNNING: end it with the MLflow UI")
    except Exception as error:  # the refusal stands whatever the store answers
        say(f"could not mark the run as failed ({type(error).__name__}: {error})")


def say(text: str) -> None:
    print(f"conda stand-in: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
