"""Figures of trials side by side: measures over seeds, a loss against the curriculum's blend, effects of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.curves import smooth
from drone_cbf.reporting.tables import shortened
from drone_cbf.reporting.trials import CONFIDENCE, Interval, Measure, grouped, interval, loss_by_blend, measured

COLUMNS, LONGEST_NAME, MOST_GROUPS = 3, 34, 30
"""Panels side by side, characters of a group's name beside an axis, and groups that fit into one figure."""
OUTLYING = 3.0
"""An effect this many times larger than the next is written as a number at the edge of its panel."""
BETTER, WORSE, NEITHER = style.GREEN, style.VERMILION, style.MUTED
REQUIRED = {"color": style.MUTED, "lw": 1.0, "ls": (0, (4, 3))}

Effects = Mapping[str, Mapping[str, Interval | None]]
"""Name of a change -> title of a figure -> by how much the change makes it larger; None or missing: unknown."""


def _row_panels(title: str, titles: Sequence[str], names: Sequence[str], row: float) -> tuple[Figure, list[Axes]]:
    """A panel for each of ``titles``; all have the rows ``names``, each ``row`` inches high, the first on top."""
    columns = min(COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = style.new_figure(3.4 * columns + 1.8, rows * (row * len(names) + 1.0) + 0.8, title)
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
    names, labels = [shortened(name, LONGEST_NAME) for name in groups], [measure.label for measure in measures]
    figure, panels = _row_panels("Worst cell of the evaluation, filter on", labels, names, 0.42)
    for axes, measure in zip(panels, measures, strict=True):
        _draw_measure(axes, measure, list(groups.values()))
    counts = sorted({len(members) for members in groups.values()})
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    mean = f"mean, {100 * CONFIDENCE:.0f} % t interval over seeds ({seeds})"
    mean = "the only seed (n = 1: no interval)" if counts[-1] == 1 else mean
    handles = [
        _sample(marker="o", ms=6, color=style.INK, label=mean),
        _sample(marker="o", ms=3.6, color=style.INK, alpha=0.55, lw=0, label="one seed"),
        _sample(**REQUIRED, label="required"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _sample(**look: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], **{"lw": style.LINE, **look})


def _draw_measure(axes: Axes, measure: Measure, groups: Sequence[pd.DataFrame]) -> None:
    shown: list[float] = []
    for place, members in enumerate(groups):
        values = members[measure.key].to_numpy(float)
        found, colour = interval(values), style.CYCLE[place % len(style.CYCLE)]
        offset = place + 0.24 + np.linspace(-0.07, 0.07, len(values)) * (len(values) > 1)
        axes.scatter(values, offset, s=13, color=colour, alpha=0.55, lw=0, gid="seeds", clip_on=False)
        _draw_interval(axes, found, place, color=colour, ms=6, capsize=3)
        shown += [*values, found.mean]
    if measure.required is not None:
        axes.axvline(measure.required, gid="required", **REQUIRED)
        shown.append(measure.required)
    # Around the values, not the intervals: two seeds' interval would push everything else into a corner.
    finite = np.array(shown)[np.isfinite(shown)]
    if not len(finite):
        style.say_empty(axes, "not a number for any seed")
        return
    low, high = float(finite.min()), float(finite.max())
    room = 0.18 * (high - low) or max(0.05 * abs(high), 1e-3)
    # No measure is negative: room to the left of zero would only show impossible values.
    axes.set_xlim(max(low - room, -0.06 * (high + room)), high + room)


def _draw_interval(axes: Axes, found: Interval, place: int, **look: Any) -> None:
    spread = None if np.isnan(found.half_width) else found.half_width
    axes.errorbar([found.mean], [place], xerr=spread, fmt="o", elinewidth=style.LINE, zorder=4, **look)


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
        by_run, levels = members.pivot(index="step", columns="run_id", values="value"), loss_by_blend(members)
        left.plot(by_run.index, by_run, color=colour, lw=0.7, alpha=0.25)
        mean = by_run.dropna().mean(axis=1)  # over the updates that all seeds have
        left.plot(mean.index, smooth(mean.to_numpy(), max(1, len(mean) // 20)), color=colour, lw=style.LINE)
        # Shifted a little, so that intervals at the same blend do not overlap.
        shift = 0.012 * (place - 0.5 * (len(groups) - 1))
        label = f"{shortened(group, LONGEST_NAME)} (n = {members['run_id'].nunique()})"
        look = {"color": colour, "marker": "o", "ms": 5, "capsize": 3, "lw": style.LINE, "label": label}
        right.errorbar(levels["blend"] + shift, levels["mean"], yerr=levels["half_width"].fillna(0.0), **look)
    positive = losses["value"][np.isfinite(losses["value"]) & (losses["value"] > 0.0)]
    if len(positive) and np.log10(positive.max() / positive.min()) > 1.0:
        left.set_yscale("log")  # a loss of zero is a gap then
    left.set(xlabel="update", ylabel=name, title="over the training")
    right.set(xlabel="blend (0: analytic, 1: neural)", xlim=(-0.08, 1.08), title="against the blend")
    for axes in (left, right):
        axes.grid(True)
    figure.legend(loc="outside lower left", ncols=min(3, len(groups)))
    return figure


@style.styled
def effects_figure(effects: Effects, larger_is_better: Mapping[str, bool], baseline: str) -> Figure:
    """One panel for each title of ``larger_is_better``; zero is ``baseline``, intervals that exclude it are coloured.

    Raises ValueError for no effects.
    """
    if not effects:
        raise ValueError("effects_figure: needs at least one effect")
    title = f"Effect of each change, relative to {baseline}"
    figure, panels = _row_panels(title, list(larger_is_better), list(effects), 0.2)
    for axes, (name, larger) in zip(panels, larger_is_better.items(), strict=True):
        _draw_effects(axes, [effect.get(name) for effect in effects.values()], larger)
    better = f"better: the {100 * CONFIDENCE:.0f} % interval of the difference at the same seed excludes zero"
    texts = {BETTER: better, WORSE: "worse: likewise", NEITHER: "no difference found"}
    handles = [_sample(marker="o", ms=4.5, color=colour, label=text) for colour, text in texts.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _draw_effects(axes: Axes, effects: Sequence[Interval | None], larger_is_better: bool) -> None:
    axes.axvline(0.0, color=style.INK, lw=style.THIN)
    known = {place: one for place, one in enumerate(effects) if one is not None and np.isfinite(one.mean)}
    sizes = sorted((abs(one.mean) for one in known.values()), reverse=True)
    while len(sizes) > 1 and sizes[0] > OUTLYING * sizes[1] > 0.0:
        del sizes[0]
    ends = [0.0]
    for place, one in known.items():
        better = (one.mean > 0.0) is larger_is_better
        colour = NEITHER if not one.excludes_zero else BETTER if better else WORSE
        if abs(one.mean) <= sizes[0]:
            _draw_interval(axes, one, place, color=colour, ms=4.5, capsize=2)
            # A wide interval that includes zero may leave the panel.
            ends += [one.mean, *(one.mean + side * one.half_width for side in (-1.0, 1.0) if one.excludes_zero)]
            continue
        look = {"color": colour, "va": "center", "weight": "bold", "transform": axes.get_yaxis_transform(), "zorder": 4}
        if one.mean > 0.0:
            axes.text(0.99, place, f"{one.mean:+.3g} \N{RIGHTWARDS ARROW}", ha="right", **look)
        else:
            axes.text(0.01, place, f"\N{LEFTWARDS ARROW} {one.mean:+.3g}", ha="left", **look)
    room = 0.15 * float(np.ptp(ends)) or 1e-3
    axes.set_xlim(min(ends) - room, max(ends) + room)
