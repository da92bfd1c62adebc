"""Curves over the updates: of one run with every recorded value, of several runs, of the monitor's measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array

History = Sequence[Mapping[str, float]]
"""One mapping per record: ``step`` and some metrics."""
LOG_DECADES = 2.0  # a panel without negative values whose positive ones span more decades gets a logarithmic axis
WINDOW_FRACTION = 0.03  # width of the smoothing window, of the recorded points
SMOOTHED_FROM = 40  # curves of fewer records (evaluations, say) are drawn as they are, with a dot for each
SETTINGS = ("curriculum/", "adaptive/")
"""Prefixes of settings, which hold until they are changed: drawn as steps and never smoothed."""
ADAPTIVE = "adaptive/"  # prefix of settings that most curricula leave alone: drawn only where they change
MEASURED = (("eval", style.BLUE, "nominal drone"), ("robust", style.PURPLE, "varied drones, stronger wind"))
"""Prefix of the measured metrics, colour, label."""
ASKS_NOTHING = 1e3  # thresholds from here on are not drawn: they would squash the measurements


@style.styled
def training_curves(history: History, groups: Mapping[str, Sequence[str]]) -> Figure:
    """One panel per group of metrics: recorded values pale, their running mean on top; settings as steps.

    ``history``: one mapping per record; a metric may be absent from some. ``groups``: panel title to metric names.
    Values that are not finite are left out and counted in the legend. Raises ValueError where the history or the
    groups are empty, or no record holds ``step``.
    """
    if not history or not groups:
        raise ValueError("training_curves: needs at least one record and one group of metrics")
    if not any("step" in record for record in history):
        raise ValueError("training_curves: no record holds 'step'; add it to every record")
    figure, panels = _new_panels(len(groups), 0.5)
    for axes, (title, names) in zip(panels, groups.items(), strict=True):
        _draw_group(axes, title, {name: series(history, name) for name in names})
    return figure


@style.styled
def curves_together(groups: Mapping[str, Sequence[History]], names: Sequence[str]) -> Figure:
    """One panel per metric of ``names`` that any run recorded: every run a smoothed line in its group's colour.

    Values that are not finite are left out. Raises ValueError where no run recorded any of the metrics.
    """
    tables = {name: [[finite(series(history, name)) for history in runs] for runs in groups.values()] for name in names}
    recorded = {name: found for name, found in tables.items() if any(map(len, chain(*found)))}
    shown = {name: found for name, found in recorded.items() if _worth_showing(name, list(chain(*found)))}
    if not shown:
        raise ValueError(f"curves_together: no run recorded any of {', '.join(names)}")
    figure, panels = _new_panels(len(shown), 0.8)
    colours = list(islice(cycle(style.CYCLE), len(groups)))
    for axes, (name, found) in zip(panels, shown.items(), strict=True):
        scale = _prepare(axes, name, list(chain(*found)))
        for colour, runs in zip(colours, found, strict=True):
            for table in filter(len, runs):
                axes.plot(*_middle(name, table, scale), color=colour, lw=1.1, alpha=0.85, gid="run", **_shape(name))
    handles = [
        Line2D([], [], color=colour, lw=style.LINE, label=f"{group} ({len(runs)} run{'s' * (len(runs) > 1)})")
        for colour, (group, runs) in zip(colours, groups.items(), strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=min(3, len(handles)))
    return figure


@style.styled
def monitor_curves(history: History, stages: Sequence[Any]) -> Figure:
    """Two panels over the updates, success rate and 99.9 % violation, with a grey line where a stage begins.

    ``stages``: each with ``name``, ``success_threshold`` and ``violation_threshold`` [m/s], drawn as dotted steps.
    Roll-backs are dashed. Raises ValueError where nothing was measured.
    """
    if not len(finite(series(history, "eval/success_rate"))):
        raise ValueError("monitor_curves: no record holds eval/success_rate")
    figure = style.new_figure(9.6, 5.6, "Measurements on fresh scenes during joint training")
    above, below = figure.subplots(2, 1, sharex=True)
    spans = stage_spans(history)
    for axes, metric, asked in ((above, "success_rate", "success"), (below, "violation_p999", "violation")):
        _draw_stages(axes, spans, [getattr(stage, f"{asked}_threshold") for stage in stages])
        for index, (step, _) in enumerate(series(history, "monitor/rollbacks")):
            look = {"color": style.VERMILION, "lw": 1.2, "ls": "--", "label": None if index else "roll-back"}
            axes.axvline(step, gid="rollback", **look)
        for prefix, colour, label in MEASURED:
            table = finite(series(history, f"{prefix}/{metric}"))
            if len(table):
                axes.plot(*table.T, color=colour, lw=style.LINE, marker="o", ms=4, label=label, gid=prefix)
        axes.grid(True)
    for first, _, index in spans:
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        above.annotate(stages[index].name, (first, 1.0), (3, 2), size=style.SMALL, **place)
    above.set(ylim=(-0.03, 1.03), ylabel="success rate")
    below.set(xlabel="step", ylabel="CBF violation,\n99.9 % quantile [m/s]")
    above.legend(loc="lower right", ncols=2)
    return figure


def smooth(values: Array, window: int) -> Array:
    """Running mean over ``window`` points centred on each, (N,); over those that exist, towards both ends."""
    return pd.Series(values).rolling(window // 2 * 2 + 1, min_periods=1, center=True).mean().to_numpy()


def series(history: History, name: str) -> Array:
    """(step, value) of the records that hold both, ordered by step, (N, 2)."""
    rows = [(record["step"], record[name]) for record in history if name in record and "step" in record]
    table = np.array(rows, float).reshape(-1, 2)
    return table[np.argsort(table[:, 0], kind="stable")]


def finite(table: Array) -> Array:
    """The rows of a series whose value is a number."""
    return table[np.isfinite(table[:, 1])]


def stage_spans(history: History) -> list[tuple[float, float, int]]:
    """(first step, last step, index) of every stage, in order."""
    table = series(history, "curriculum/stage")
    by_stage = pd.DataFrame(table, columns=["step", "stage"]).groupby("stage")["step"].agg(["min", "max"])
    return [(first, last, int(index)) for index, first, last in by_stage.itertuples()]


def _new_panels(count: int, extra: float) -> tuple[Figure, list[Axes]]:
    """``extra``: height of title or legend [inch]."""
    columns = min(count, 3)
    figure = style.new_figure(4.0 * columns + 0.6, 2.5 * -(-count // columns) + extra)
    panels = style.panel_grid(figure, count, columns, sharex=True)
    for axes in panels[-columns:]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    return figure, panels


def _prepare(axes: Axes, title: str, tables: Sequence[Array]) -> str:
    """Title, grid and scale of a panel; returns the scale."""
    axes.set_title(title)
    axes.grid(True)
    values = np.concatenate([np.zeros(0), *(table[:, 1] for table in tables)])
    positive = values[values > 0.0]
    if not len(values):
        style.say_empty(axes, "not recorded")
    elif len(positive) and values.min() >= 0.0 and np.log10(positive.max() / positive.min()) > LOG_DECADES:
        if len(positive) == len(values):
            axes.set_yscale("log")
        else:  # zero has no logarithm: linear below a ten-thousandth of the largest value
            axes.set_yscale("symlog", linthresh=max(positive.min(), 1e-4 * positive.max()))
            axes.set_ylim(0.0, 2.0 * positive.max())
    return axes.get_yscale()


def _draw_group(axes: Axes, title: str, recorded: Mapping[str, Array]) -> None:
    shown = {name: finite(table) for name, table in recorded.items() if _worth_showing(name, [finite(table)])}
    scale = _prepare(axes, title, list(shown.values()))
    for colour, (name, table) in zip(cycle(style.CYCLE), shown.items(), strict=False):
        lost = len(recorded[name]) - len(table)
        label = name.split("/", 1)[-1].replace("_", " ") + (f" ({lost} not finite)" if lost else "")
        step, middle = _middle(name, table, scale)
        few = len(table) < SMOOTHED_FROM and not name.startswith(SETTINGS)
        look = {"marker": "o" if few else "", "ms": 3, **_shape(name)}
        axes.plot(*table.T, color=colour, lw=0.8, alpha=0.28, gid="raw", **look)
        axes.plot(step, middle, color=colour, lw=style.LINE, label=label, gid="smooth", **look)
    if any(map(len, shown.values())):
        columns = 2 if len(shown) > 3 else 1
        axes.legend(loc="best", ncols=columns, handlelength=1.2)


def _worth_showing(name: str, tables: Sequence[Array]) -> bool:
    return not name.startswith(ADAPTIVE) or any(len(table) and np.ptp(table[:, 1]) > 0.0 for table in tables)


def _shape(name: str) -> dict[str, str]:
    return {"drawstyle": "steps-post"} if name.startswith(SETTINGS) else {}


def _middle(name: str, table: Array, scale: str) -> tuple[Array, Array]:
    """Steps and running mean; few values and settings are left as they are."""
    step, value = table.T
    if len(value) < SMOOTHED_FROM or name.startswith(SETTINGS):
        return step, value
    window = max(3, round(WINDOW_FRACTION * len(value)))
    # On a logarithmic axis the geometric mean runs through the middle of what is seen; the plain one along its top.
    return step, np.exp(smooth(np.log(value), window)) if scale == "log" else smooth(value, window)


def _draw_stages(axes: Axes, spans: Sequence[tuple[float, float, int]], thresholds: Sequence[float]) -> None:
    for first, _, _ in spans[1:]:
        axes.axvline(first - 0.5, color=style.MUTED, lw=0.8, gid="stage")
    asked = np.array([thresholds[index] for _, _, index in spans])
    asked = np.where(asked < ASKS_NOTHING, asked, np.nan)
    if np.isfinite(asked).any():
        edges = [*(first - 0.5 * (first > spans[0][0]) for first, _, _ in spans), spans[-1][1]]
        look = {"color": style.INK, "lw": 1.0, "ls": ":", "drawstyle": "steps-post"}
        axes.plot(edges, [*asked, asked[-1]], gid="threshold", label="required", **look)
