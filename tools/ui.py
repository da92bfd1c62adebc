"""Prints where to look at the runs, and with ``--serve`` opens the light MLflow UI on this machine.

Usage: python tools/ui.py [--serve] [PORT]
"""

from __future__ import annotations

import os
import sys


def links(base: str) -> list[str]:
    """One line per experiment that holds runs: its name and the address of its table of runs."""
    from mlflow import MlflowClient

    client = MlflowClient()
    found = []
    for experiment in client.search_experiments():
        if client.search_runs([experiment.experiment_id], max_results=1):
            page = f"{base}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
            found.append(f"  {experiment.name}: {page}")
    return found


def main(arguments: list[str]) -> None:
    serve = "--serve" in arguments
    port = next((a for a in arguments if a != "--serve"), "5000")
    if not port.isdigit() or not 0 < int(port) < 65536:
        sys.exit(f"ui: PORT = {port} is no port; give a number from 1 to 65535 (make ui PORT=5001)")
    from mlflow import get_tracking_uri

    uri = get_tracking_uri()
    remote = uri.startswith(("http://", "https://"))
    base = uri.rstrip("/") if remote else f"http://127.0.0.1:{port}"
    print("\n".join(["Runs:", *(links(base) or ["  none yet: 'make run' makes some"])]))
    if remote:
        print(f"The tracking server {uri} is running already.")
    elif not serve:
        print("Open the UI with: make ui")
    else:
        print(f"Serving {uri} on {base} (Ctrl-C ends it)", flush=True)
        os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # 2 processes in place of 15
        os.execvp("mlflow", ["mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", port])


if __name__ == "__main__":
    main(sys.argv[1:])
