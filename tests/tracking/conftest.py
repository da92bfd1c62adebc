"""A run to write to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drone_cbf.tracking.runs.stage_run import StageRun, stage_run

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(experiment: str) -> Iterator[StageRun]:
    with stage_run("toy", PROJECT) as started:
        yield started
