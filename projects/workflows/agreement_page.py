"""What the run of ``reproduce`` says, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import run_page
from drone_cbf.tracking.queries.agreement import Comparison, Tolerance

SHOWN = 20
"""Metrics that the description shows; the table artifact holds all."""


def agreement_page(
    recorded: Any,
    repeated: Any,
    rows: Sequence[Comparison],
    changed: Mapping[str, tuple[str, str]],
    tolerance: Tolerance,
) -> str:
    """The verdict, what differs between the two runs' environments, and the metrics that differ most.

    ``recorded`` and ``repeated`` are MLflow runs; ``changed`` holds versions, commit, device and parameters where they
    differ.
    """
    wrong = sum(1 for row in rows if row.disagreeing)
    verdict = f"{wrong} of {len(rows)} metrics disagree" if wrong else f"all {len(rows)} metrics agree at every step"
    accepted = "to the last bit"
    if tolerance != Tolerance():
        accepted = f"within {tolerance.absolute:g} + {tolerance.relative:g} x the value"
    parts = [
        f"### Reproduction: {verdict}",
        f"Recorded: run {_link(recorded)}. Repeated: run {_link(repeated)}. Figures must agree {accepted}.",
        "#### Environment",
        _environment(changed),
    ]
    if rows:
        parts += [
            "#### Metrics, the most different first",
            markdown_table([_row(row) for row in sorted(rows, key=_order)[:SHOWN]]),
        ]
    if len(rows) > SHOWN:
        parts.append(f"{len(rows) - SHOWN} more in `tables/reproduction.json`.")
    return "\n\n".join(parts)


def _environment(changed: Mapping[str, tuple[str, str]]) -> str:
    if not changed:
        return "Commit, versions and device are the same."
    return markdown_table([{"": name, "recorded": pair[0], "repeated": pair[1]} for name, pair in changed.items()])


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


def _link(run: Any) -> str:
    return f"[{run.info.run_id}]({run_page(run.info.run_id, run.info.experiment_id)})"
