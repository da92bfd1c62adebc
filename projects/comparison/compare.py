"""Entry point ``compare``: trained policies side by side, over their seeds."""

from __future__ import annotations

from drone_cbf.tracking.queries.selection import evaluated, select_runs
from projects.comparison.comparison import compare
from projects.running.stage_runner import Outcome, Stage


def work(stage: Stage) -> Outcome:
    named = bool(stage.parameters.runs)
    records = select_runs(stage.parameters.runs, stage.parameters.experiment, stage.parameters.filter)
    return Outcome(compare(stage, evaluated(records, strict=named), strict=named))
