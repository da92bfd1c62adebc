"""What the monitor of joint training saw: success and violation over the updates, stages, thresholds, roll-backs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array

History = Sequence[Mapping[str, float]]
"""One mapping per record: ``step`` and some metrics."""
MEASURED = (("eval", style.BLUE, "the drone it trains"), ("robust", style.ORANGE, "other drones, more wind"))
"""Prefix of the metrics, colour, label."""


ASKS_NOTHING = 1e3
"""Thresholds from here on are not drawn: they would squash the measurements."""


@dataclass(frozen=True)
class WatchedStage:
    """A stage's name and what it asks for."""

    name: str
    success_threshold: float
    violation_threshold: float
    """99.9 % quantile [m/s]."""


@style.styled
def monitor_curves(history: History, stages: Sequence[WatchedStage]) -> Figure:
    """Two panels over the updates, success rate and 99.9 % violation, with a grey line where a stage begins.

    Roll-backs are red and dashed, the stages' thresholds dotted. Raises ValueError where nothing was measured.
    """
    if not len(_series(history, "eval/success_rate")):
        raise ValueError("monitor_curves: no record holds eval/success_rate")
    figure = style.new_figure(9.6, 5.2)
    above, below = figure.subplots(2, 1, sharex=True)
    spans = stage_spans(history)
    thresholds = [(stage.success_threshold, stage.violation_threshold) for stage in stages]
    for axes, metric, column in ((above, "success_rate", 0), (below, "violation_p999", 1)):
        _draw_stages(axes, spans, [pair[column] for pair in thresholds])
        for step in rollback_steps(history):
            axes.axvline(step, color=style.COLLISION, lw=1.2, ls="--", gid="rollback")
        _draw_measurements(axes, history, metric)
    for first, _, index in spans:
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        above.annotate(stages[index].name, (first, 1.0), (3, 2), size=style.SMALL, **place)
    above.set(ylim=(-0.03, 1.03), ylabel="success rate")
    below.set(xlabel="step", ylabel="99.9 % violation [m/s]")
    above.legend(loc="lower left", frameon=True, framealpha=0.85, edgecolor="none")
    return figure


def stage_spans(history: History) -> list[tuple[float, float, int]]:
    """(first step, last step, index) of every stage, in order."""
    table = _series(history, "curriculum/stage")
    spans = []
    for index in np.unique(table[:, 1]):
        steps = table[table[:, 1] == index, 0]
        spans.append((float(steps.min()), float(steps.max()), int(index)))
    return spans


def rollback_steps(history: History) -> list[float]:
    """Steps after which training was rolled back."""
    return _series(history, "monitor/rollbacks")[:, 0].tolist()


def _draw_stages(axes: Axes, spans: Sequence[tuple[float, float, int]], thresholds: Sequence[float]) -> None:
    for first, last, index in spans:
        if first > spans[0][0]:
            axes.axvline(first - 0.5, color=style.MUTED, lw=0.8, gid="stage")
        if thresholds[index] < ASKS_NOTHING:
            axes.hlines(thresholds[index], first, last, color=style.INK, lw=1.0, ls=":", gid="threshold")


def _draw_measurements(axes: Axes, history: History, metric: str) -> None:
    for prefix, colour, label in MEASURED:
        table = _series(history, f"{prefix}/{metric}")
        if len(table):
            axes.plot(table[:, 0], table[:, 1], color=colour, lw=style.LINE, marker="o", ms=4, label=label, gid=prefix)
    axes.grid(True)


def _series(history: History, name: str) -> Array:
    """(step, value) of the records that hold a finite value, ordered by step, (N, 2)."""
    rows = [(record["step"], record[name]) for record in history if name in record and "step" in record]
    table = np.array(rows, float).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return table[np.argsort(table[:, 0], kind="stable")]
