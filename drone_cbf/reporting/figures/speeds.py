"""Success and collisions by cruise speed or by the number of drones, with the filter on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from scipy.stats import binomtest

from drone_cbf.reporting.figures import style

CONFIDENCE = 0.95  # Of the intervals (Clopper and Pearson 1934)
RATES = {"success_rate": "success rate", "collision_rate": "collision rate"}
LOOKS = {True: ("filter on", style.BLUE, "o"), False: ("filter off", style.VERMILION, "s")}
_NEEDED = ("scene", "filtered", "rollouts", "mean_speed", *RATES)


def rates_by_speed(rows: Sequence[Mapping[str, object]]) -> Figure:
    """One column of panels per scene: success above, collisions below, by cruise speed [m/s].

    Rows of the same scene, speed and filter are pooled. ``mean_speed`` [m/s], which includes starting and stopping, is
    written at the points with the filter on. Raises ValueError for no rows, or rows without a key.
    """
    return _rates_by("speed", "cruise speed [m/s]", "By cruise speed", rows)


def rates_by_number(rows: Sequence[Mapping[str, object]]) -> Figure:
    """The same by the number of drones that fly at once, ``drones``, on a logarithmic axis."""
    figure = _rates_by("drones", "drones at once", "By number of drones", rows)
    for axes in figure.axes:
        numbers = sorted({int(row["drones"]) for row in rows})  # type: ignore[call-overload]  # whole numbers
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.xaxis.set_minor_locator(NullLocator())
    return figure


@style.styled
def _rates_by(axis: str, label: str, title: str, rows: Sequence[Mapping[str, object]]) -> Figure:
    if not rows:
        raise ValueError(f"rates by {axis}: no rows; pass one mapping per scene, {axis} and filter")
    for row in rows:
        if missing := [key for key in (axis, *_NEEDED) if key not in row]:
            raise ValueError(f"rates by {axis}: a row lacks {', '.join(missing)}; it holds {', '.join(row)}")
    cells = pd.DataFrame(rows)
    scenes = list(dict.fromkeys(cells["scene"]))
    figure = style.new_figure(max(3.6 * len(scenes), 4.8), 5.6, title)
    panels = figure.subplots(2, len(scenes), squeeze=False, sharex=True, sharey="row")
    for column, scene in enumerate(scenes):
        for axes, rate in zip(panels[:, column], RATES, strict=True):
            _draw(axes, cells[cells["scene"] == scene], axis, rate)
        panels[0, column].set_title(str(scene).replace("_", " "))
        panels[1, column].set_xlabel(label)
    for axes, rate in zip(panels[:, 0], RATES.values(), strict=True):
        axes.set_ylabel(rate)
    panels[0, 0].legend(loc="lower left")
    return figure


def _draw(axes: Axes, cells: pd.DataFrame, axis: str, rate: str) -> None:
    axes.grid(True)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for filtered, flown in cells.groupby("filtered"):
        label, colour, marker = LOOKS[bool(filtered)]
        pooled = [_pooled(float(value), some, rate) for value, some in flown.groupby(axis)]
        value, share, low, high, mean = np.array(pooled).T
        axes.fill_between(value, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(value, share, color=colour, marker=marker, ms=4, label=label)
        for place in zip(value, share, mean, strict=True) if filtered and rate == "success_rate" else ():
            text = f"{place[2]:.1f}"
            axes.annotate(text, place[:2], (0, 5), textcoords="offset points", ha="center", fontsize=style.SMALL)


def _pooled(value: float, cells: pd.DataFrame, rate: str) -> tuple[float, float, float, float, float]:
    """Value of the axis, rate, both ends of its interval, and mean speed of all flights of ``cells``."""
    flights = int(cells["rollouts"].sum())
    events = round(float((cells[rate] * cells["rollouts"]).sum()))
    interval = binomtest(events, flights).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    mean = float((cells["mean_speed"] * cells["rollouts"]).sum()) / flights
    return value, events / flights, float(interval.low), float(interval.high), mean
