"""Entry point ``reproduce``: runs a recorded run again and says, metric by metric, whether it agrees."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drone_cbf.errors import ReproductionError
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries.agreement import (
    Comparison,
    Tolerance,
    compare_runs,
    environment_differences,
    figure_names,
)
from drone_cbf.tracking.runs.lineage import get_run
from drone_cbf.tracking.runs.nesting import run_child
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.running.worker import prepare_for_children
from projects.workflows.recorded_run import Recorded, read_recorded

Changes = Mapping[str, tuple[str, str]]
"""Version, commit, device or parameter that differs -> recorded and repeated value."""
SHOWN = 20
"""Metrics that the description shows; the table artifact holds all."""


def work(stage: Stage) -> Outcome:
    recorded = read_recorded(stage.parameters.run)
    stage.run.tag(reproduces=recorded.run_id)
    prepare_for_children()
    print(f"reproduce: {recorded.stage} run {recorded.run_id} starts again", flush=True)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        child = run_child(stage.run, ROOT, recorded.stage, recorded.arguments(Path(folder)))
    before, after = get_run(recorded.run_id, "run"), get_run(child.run_id, "run")
    changed = environment_differences(before.data.tags, after.data.tags)
    changed |= {name: ("not there yet", value) for name, value in recorded.newer.items()}
    tolerance = tolerance_for(stage, same_environment=not changed)
    stage.recorder.begin("compare", len(figure_names(before, after)))
    rows = compare_runs(before, after, tolerance, lambda number: stage.recorder.metrics(number, {}))
    page = agreement_page(before, after, rows, changed, tolerance)
    return conclude(stage, recorded, rows, page)


def tolerance_for(stage: Stage, same_environment: bool) -> Tolerance:
    """None where every bit must agree; else as the parameters say."""
    wanted = stage.parameters
    if wanted.exact == "always" or (wanted.exact == "auto" and same_environment):
        return Tolerance()
    return Tolerance(relative=wanted.relative_tolerance, absolute=wanted.absolute_tolerance)


def conclude(stage: Stage, recorded: Recorded, rows: Sequence[Comparison], page: str) -> Outcome:
    """Leaves table, tags and summary, and fails where a metric disagrees."""
    table = {name: [asdict(row)[name] for row in rows] for name in asdict(rows[0])} if rows else {"metric": []}
    stage.run.log_table(table, "tables/reproduction.json")
    wrong = [row for row in rows if row.disagreeing]
    agrees = bool(rows) and not wrong
    stage.run.log_metrics({"reproduction/metrics": len(rows), "reproduction/disagreeing": len(wrong)})
    stage.run.tag(reproduction="agrees" if agrees else "differs")
    stage.run.describe(page)
    if not rows:
        raise ReproductionError(
            f"run {recorded.run_id} recorded no metric, so nothing can be compared; name another run"
        )
    if wrong:
        first = max(wrong, key=lambda row: row.disagreeing)
        raise ReproductionError(
            f"{len(wrong)} of {len(rows)} metrics disagree with run {recorded.run_id}, most steps of {first.metric} "
            f"({first.disagreeing} of {first.steps}, from step {first.first} on); see tables/reproduction.json"
        )
    print(f"reproduce: all {len(rows)} metrics of run {recorded.run_id} agree at every step", flush=True)
    return Outcome(page)


def agreement_page(
    recorded: Any, repeated: Any, rows: Sequence[Comparison], changed: Changes, tolerance: Tolerance
) -> str:
    """The verdict, what differs between the two runs' environments, and the metrics that differ most, in Markdown."""
    wrong = sum(row.disagreeing > 0 for row in rows)
    verdict = f"{wrong} of {len(rows)} metrics disagree" if wrong else f"all {len(rows)} metrics agree at every step"
    accepted = "to the last bit"
    if tolerance != Tolerance():
        accepted = f"within {tolerance.absolute:g} + {tolerance.relative:g} x the value"
    before, after = (linked(run.info.run_id, run.info.experiment_id) for run in (recorded, repeated))
    environment = [{"": name, "recorded": pair[0], "repeated": pair[1]} for name, pair in changed.items()]
    parts = [
        f"### Reproduction: {verdict}",
        f"Recorded: run {before}. Repeated: run {after}. Figures must agree {accepted}.",
        "#### Environment",
        markdown_table(environment) if changed else "Commit, versions and device are the same.",
    ]
    if rows:
        shown = [_row(row) for row in sorted(rows, key=_order)[:SHOWN]]
        parts += ["#### Metrics, the most different first", markdown_table(shown)]
    if len(rows) > SHOWN:
        parts.append(f"{len(rows) - SHOWN} more in `tables/reproduction.json`.")
    return "\n\n".join(parts)


def _row(row: Comparison) -> dict[str, object]:
    return {
        "metric": row.metric,
        "agrees": not row.disagreeing,
        "steps": row.steps,
        "disagreeing": row.disagreeing,
        "first at step": row.first,
        "largest difference": row.largest_difference,
        "recorded, last": row.recorded,
        "repeated, last": row.repeated,
    }


def _order(row: Comparison) -> tuple[float, ...]:
    difference = math.inf if math.isnan(row.largest_difference) else row.largest_difference
    return (-row.disagreeing, -difference)
