"""Success and collisions by cruise speed, with the filter on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from drone_cbf.reporting.figures import style

CONFIDENCE = 0.95  # Of the intervals (Clopper and Pearson 1934)
RATES = {"success_rate": "success rate", "collision_rate": "collision rate"}
LOOKS = {True: ("filter on", style.BLUE, "o"), False: ("filter off", style.VERMILION, "s")}
_NEEDED = ("scene", "speed", "filtered", "rollouts", "mean_speed", *RATES)


@style.styled
def rates_by_speed(rows: Sequence[Mapping[str, object]]) -> Figure:
    """One column of panels per scene: success above, collisions below, by cruise speed [m/s].

    Rows of the same scene, speed and filter are pooled. ``mean_speed`` [m/s], which includes starting and stopping, is
    written at the points with the filter on. Raises ValueError for no rows, or rows without a key.
    """
    if not rows:
        raise ValueError("rates_by_speed: no rows; pass one mapping per scene, speed and filter")
    for row in rows:
        if missing := [key for key in _NEEDED if key not in row]:
            raise ValueError(f"rates_by_speed: a row lacks {', '.join(missing)}; it holds {', '.join(row)}")
    cells = pd.DataFrame(rows)
    scenes = list(dict.fromkeys(cells["scene"]))
    figure = style.new_figure(max(3.6 * len(scenes), 4.8), 5.6, "By cruise speed")
    panels = figure.subplots(2, len(scenes), squeeze=False, sharex=True, sharey="row")
    for column, scene in enumerate(scenes):
        for axes, rate in zip(panels[:, column], RATES, strict=True):
            _draw(axes, cells[cells["scene"] == scene], rate)
        panels[0, column].set_title(str(scene).replace("_", " "))
        panels[1, column].set_xlabel("cruise speed [m/s]")
    for axes, label in zip(panels[:, 0], RATES.values(), strict=True):
        axes.set_ylabel(label)
    panels[0, 0].legend(loc="lower left")
    return figure


def _draw(axes: Axes, cells: pd.DataFrame, rate: str) -> None:
    axes.grid(True)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for filtered, flown in cells.groupby("filtered"):
        label, colour, marker = LOOKS[bool(filtered)]
        pooled = [_pooled(float(speed), some, rate) for speed, some in flown.groupby("speed")]
        speed, share, low, high, mean = np.array(pooled).T
        axes.fill_between(speed, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(speed, share, color=colour, marker=marker, ms=4, label=label)
        for place in zip(speed, share, mean, strict=True) if filtered and rate == "success_rate" else ():
            text = f"{place[2]:.1f}"
            axes.annotate(text, place[:2], (0, 5), textcoords="offset points", ha="center", fontsize=style.SMALL)


def _pooled(speed: float, cells: pd.DataFrame, rate: str) -> tuple[float, float, float, float, float]:
    """Speed, rate, both ends of its interval, and mean speed of all flights of ``cells``."""
    flights = int(cells["rollouts"].sum())
    events = round(float((cells[rate] * cells["rollouts"]).sum()))
    interval = binomtest(events, flights).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    mean = float((cells["mean_speed"] * cells["rollouts"]).sum()) / flights
    return speed, events / flights, float(interval.low), float(interval.high), mean
