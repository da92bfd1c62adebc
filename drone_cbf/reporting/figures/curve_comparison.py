"""Training curves of several runs in the same panels, one colour for each group of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.curves import LOG_DECADES, WINDOW_FRACTION, smooth

History = Sequence[Mapping[str, float]]
"""One mapping per record: ``step`` and some metrics."""


@style.styled
def curves_together(groups: Mapping[str, Sequence[History]], names: Sequence[str]) -> Figure:
    """One panel per metric of ``names`` that any run recorded: every run a smoothed line in its group's colour.

    Values that are not finite are left out. Raises ValueError where no run recorded any of the metrics.
    """
    recorded = {name for runs in groups.values() for history in runs for record in history for name in record}
    shown = [name for name in names if name in recorded]
    if not shown:
        raise ValueError(f"curves_together: no run recorded any of {', '.join(names)}")
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = style.new_figure(3.9 * columns + 0.4, 2.3 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, shown, strict=False):
        _draw_metric(axes, name, groups)
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    colours = dict(zip(groups, _colours(len(groups)), strict=True))
    handles = [
        Line2D([], [], color=colours[group], lw=style.LINE, label=f"{group} ({len(runs)} run{'s' * (len(runs) > 1)})")
        for group, runs in groups.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=min(3, len(handles)))
    return figure


def _draw_metric(axes: Axes, name: str, groups: Mapping[str, Sequence[History]]) -> None:
    axes.set_title(name)
    axes.grid(True)
    seen = []
    for colour, runs in zip(_colours(len(groups)), groups.values(), strict=True):
        for history in runs:
            table = np.array([(r["step"], r[name]) for r in history if name in r], float).reshape(-1, 2)
            table = table[np.isfinite(table[:, 1])]
            if len(table):
                window = max(1, round(WINDOW_FRACTION * len(table)))
                axes.plot(table[:, 0], smooth(table[:, 1], window), color=colour, lw=1.1, alpha=0.85, gid="run")
                seen.append(table[:, 1])
    values = np.concatenate([np.zeros(0), *seen])
    if not len(values):
        style.say_empty(axes, "not recorded")
    elif values.min() > 0.0 and np.log10(values.max() / values.min()) > LOG_DECADES:
        axes.set_yscale("log")


def _colours(count: int) -> list[str]:
    return [style.CYCLE[index % len(style.CYCLE)] for index in range(count)]
