"""What a workflow does before it runs stages as its children."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path


def prepare_for_children() -> None:
    """Children run in this interpreter's environment, activated or not, and MLflow does not echo their commands."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    logging.getLogger("mlflow.projects").setLevel(logging.WARNING)
