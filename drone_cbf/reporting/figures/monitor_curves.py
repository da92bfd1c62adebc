"""Measurements of joint training over the updates: success and violation, stages, thresholds, roll-backs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.curves import History, finite, series

MEASURED = (("eval", style.BLUE, "nominal drone"), ("robust", style.PURPLE, "varied drones, stronger wind"))
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

    Roll-backs are dashed, the stages' thresholds dotted steps. Raises ValueError where nothing was measured.
    """
    if not len(finite(series(history, "eval/success_rate"))):
        raise ValueError("monitor_curves: no record holds eval/success_rate")
    figure = style.new_figure(9.6, 5.6, "Measurements on fresh scenes during joint training")
    above, below = figure.subplots(2, 1, sharex=True)
    spans = stage_spans(history)
    thresholds = [(stage.success_threshold, stage.violation_threshold) for stage in stages]
    for axes, metric, column in ((above, "success_rate", 0), (below, "violation_p999", 1)):
        _draw_stages(axes, spans, [pair[column] for pair in thresholds])
        for step, label in zip(rollback_steps(history), ["roll-back"] + [None] * len(history), strict=False):
            axes.axvline(step, color=style.VERMILION, lw=1.2, ls="--", gid="rollback", label=label)
        _draw_measurements(axes, history, metric)
    for first, _, index in spans:
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        above.annotate(stages[index].name, (first, 1.0), (3, 2), size=style.SMALL, **place)
    above.set(ylim=(-0.03, 1.03), ylabel="success rate")
    below.set(xlabel="step", ylabel="CBF violation,\n99.9 % quantile [m/s]")
    above.legend(loc="lower right", ncols=2)
    return figure


def stage_spans(history: History) -> list[tuple[float, float, int]]:
    """(first step, last step, index) of every stage, in order."""
    table = series(history, "curriculum/stage")
    spans = []
    for index in np.unique(table[:, 1]):
        steps = table[table[:, 1] == index, 0]
        spans.append((float(steps.min()), float(steps.max()), int(index)))
    return spans


def rollback_steps(history: History) -> list[float]:
    """Steps after which training was rolled back."""
    return series(history, "monitor/rollbacks")[:, 0].tolist()


def _draw_stages(axes: Axes, spans: Sequence[tuple[float, float, int]], thresholds: Sequence[float]) -> None:
    for first, _, _ in spans[1:]:
        axes.axvline(first - 0.5, color=style.MUTED, lw=0.8, gid="stage")
    asked = np.array([thresholds[index] for _, _, index in spans])
    asked = np.where(asked < ASKS_NOTHING, asked, np.nan)
    if np.isfinite(asked).any():
        edges = [*(first - 0.5 * (first > spans[0][0]) for first, _, _ in spans), spans[-1][1]]
        look = {"color": style.INK, "lw": 1.0, "ls": ":", "drawstyle": "steps-post"}
        axes.plot(edges, [*asked, asked[-1]], gid="threshold", label="required", **look)


def _draw_measurements(axes: Axes, history: History, metric: str) -> None:
    for prefix, colour, label in MEASURED:
        table = finite(series(history, f"{prefix}/{metric}"))
        if len(table):
            axes.plot(*table.T, color=colour, lw=style.LINE, marker="o", ms=4, label=label, gid=prefix)
    axes.grid(True)
