"""Figures of trials side by side: the measures over seeds, and a loss against the curriculum's blend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.curves import smooth
from drone_cbf.reporting.trials import CONFIDENCE, Interval, Measure, grouped, interval, loss_by_blend, measured

COLUMNS = 3
"""Panels side by side."""
LONGEST_NAME = 34
"""Characters of a group's name beside an axis; longer ones are cut."""
MOST_GROUPS = 30
"""Groups that fit into one figure."""


def row_panels(title: str, titles: Sequence[str], names: Sequence[str], row: float) -> tuple[Figure, list[Axes]]:
    """A panel for each of ``titles``; all have the rows ``names``, each ``row`` inches high, the first on top."""
    columns = min(COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    size = 3.4 * columns + 1.8, rows * (row * len(names) + 1.0) + 0.8
    figure = style.new_figure(*size, title)
    panels = style.panel_grid(figure, len(titles), columns, sharey=True)
    for axes, name in zip(panels, titles, strict=True):
        axes.set_title(name)
        axes.grid(True)
        axes.xaxis.set_major_locator(style.few_ticks())
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure, panels


@style.styled
def comparison_figure(trials: pd.DataFrame) -> Figure:
    """One panel per measure: every seed a dot, every group its mean with the Student-t interval over seeds.

    Raises ValueError for no trials, no measure, or more than ``MOST_GROUPS`` groups.
    """
    measures = measured(trials)
    if trials.empty or not measures:
        raise ValueError("comparison_figure: needs at least one trial, and a measure that a trial has")
    groups = grouped(trials)
    if len(groups) > MOST_GROUPS:
        raise ValueError(f"comparison_figure: {len(groups)} groups; one figure shows at most {MOST_GROUPS}")
    labels = [measure.label for measure in measures]
    figure, panels = row_panels("Worst cell of the evaluation, filter on", labels, list(map(_short, groups)), 0.42)
    for axes, measure in zip(panels, measures, strict=True):
        _draw_measure(axes, measure, groups)
    figure.legend(handles=_legend(groups), loc="outside lower left", ncols=3)
    return figure


def _draw_measure(axes: Axes, measure: Measure, groups: dict[str, pd.DataFrame]) -> None:
    shown = []
    for place, members in enumerate(groups.values()):
        values = members[measure.key].to_numpy(float)
        found = interval(values)
        colour = style.CYCLE[place % len(style.CYCLE)]
        offset = place + 0.24 + np.linspace(-0.07, 0.07, len(values)) * (len(values) > 1)
        axes.scatter(values, offset, s=13, color=colour, alpha=0.55, lw=0, gid="seeds", clip_on=False)
        _draw_interval(axes, found, place, colour)
        shown += [*values, found.mean]
    if measure.required is not None:
        axes.axvline(measure.required, color=style.MUTED, lw=1.0, ls=(0, (4, 3)), gid="required")
        shown.append(measure.required)
    _frame(axes, np.array(shown))


def _draw_interval(axes: Axes, found: Interval, place: int, colour: str) -> None:
    spread = None if np.isnan(found.half_width) else found.half_width
    look = {"color": colour, "ms": 6, "capsize": 3, "elinewidth": style.LINE, "zorder": 4}
    axes.errorbar([found.mean], [place], xerr=spread, fmt="o", **look)


def _frame(axes: Axes, shown: np.ndarray) -> None:
    """Around the values, not the intervals: two seeds' interval would push everything else into a corner."""
    finite = shown[np.isfinite(shown)]
    if not len(finite):
        style.say_empty(axes, "not a number for any seed")
        return
    low, high = float(finite.min()), float(finite.max())
    room = 0.18 * (high - low) or max(0.05 * abs(high), 1e-3)
    # No measure is negative: room to the left of zero would only show impossible values.
    axes.set_xlim(max(low - room, -0.06 * (high + room)), high + room)


def _legend(groups: dict[str, pd.DataFrame]) -> list[Line2D]:
    counts = sorted({len(members) for members in groups.values()})
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    mean = f"mean, {CONFIDENCE:.0%} t interval over seeds ({seeds})".replace("%", " %")
    if counts[-1] == 1:
        mean = "the only seed (n = 1: no interval)"
    return [
        Line2D([], [], marker="o", ms=6, color=style.INK, lw=style.LINE, label=mean),
        Line2D([], [], marker="o", ms=3.6, color=style.INK, alpha=0.55, lw=0, label="one seed"),
        Line2D([], [], color=style.MUTED, lw=1.0, ls=(0, (4, 3)), label="required"),
    ]


@style.styled
def loss_over_blend(losses: pd.DataFrame) -> Figure:
    """Left: the loss over the updates, mean over seeds; right: its mean at each blend, with intervals over seeds.

    Raises ValueError for no losses.
    """
    if losses.empty:
        raise ValueError("loss_over_blend: no trial recorded the loss together with the blend")
    name, groups = losses["name"].iloc[0], grouped(losses)
    figure = style.new_figure(9.6, 3.9, f"{name} while the blend moves to the neural barrier")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1.0), sharey=True)
    for place, (group, members) in enumerate(groups.items()):
        colour = style.CYCLE[place % len(style.CYCLE)]
        _draw_over_steps(left, members, colour)
        # Shifted a little, so that intervals at the same blend do not overlap.
        shift = 0.012 * (place - 0.5 * (len(groups) - 1))
        _draw_over_blend(right, members, colour, f"{_short(group)} (n = {members['run_id'].nunique()})", shift)
    positive = losses["value"][np.isfinite(losses["value"]) & (losses["value"] > 0.0)]
    if len(positive) and np.log10(positive.max() / positive.min()) > 1.0:
        left.set_yscale("log")  # a loss of zero is a gap then
    left.set(xlabel="update", ylabel=name, title="over the training")
    right.set(xlabel="blend (0: analytic, 1: neural)", xlim=(-0.08, 1.08), title="against the blend")
    for axes in (left, right):
        axes.grid(True)
    figure.legend(loc="outside lower left", ncols=min(3, len(groups)))
    return figure


def _draw_over_steps(axes: Axes, members: pd.DataFrame, colour: str) -> None:
    by_run = members.pivot(index="step", columns="run_id", values="value")
    axes.plot(by_run.index, by_run, color=colour, lw=0.7, alpha=0.25)
    mean = by_run.dropna().mean(axis=1)  # over the updates that all seeds have
    axes.plot(mean.index, smooth(mean.to_numpy(), max(1, len(mean) // 20)), color=colour, lw=style.LINE)


def _draw_over_blend(axes: Axes, members: pd.DataFrame, colour: str, label: str, shift: float) -> None:
    levels = loss_by_blend(members)
    look = {"color": colour, "marker": "o", "ms": 5, "capsize": 3, "lw": style.LINE, "label": label}
    axes.errorbar(levels["blend"] + shift, levels["mean"], yerr=levels["half_width"].fillna(0.0), **look)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
