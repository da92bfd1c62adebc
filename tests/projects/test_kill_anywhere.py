"""Killed at random moments, whatever process it is, everything is resumed to what it would have been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_twenty_kills_leave_every_figure_every_array_and_every_status_as_without_them(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_anywhere.py"), "--kills=20", f"--folder={tmp_path}"]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    entries = "--entries=safety,evaluate,pipeline"
    result = subprocess.run([*command, entries], env=kept, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "identical; every stage once; no run left RUNNING" in result.stdout
