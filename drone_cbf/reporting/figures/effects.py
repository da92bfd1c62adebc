"""Figure of the effects of single changes: a row per change, a panel per figure, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.figures.trial_figures import row_panels
from drone_cbf.reporting.trials import CONFIDENCE, Interval

OUTLYING = 3.0
"""An effect this many times larger than the next is written as a number at the edge of its panel."""
BETTER, WORSE, NEITHER = style.GREEN, style.VERMILION, style.MUTED


Effects = Mapping[str, Mapping[str, Interval | None]]
"""Name of a change -> title of a figure -> by how much the change makes it larger; None or missing: unknown."""


@style.styled
def effects_figure(effects: Effects, larger_is_better: Mapping[str, bool], baseline: str) -> Figure:
    """One panel for each title of ``larger_is_better``; zero is ``baseline``, intervals that exclude it are coloured.

    Raises ValueError for no effects.
    """
    if not effects:
        raise ValueError("effects_figure: needs at least one effect")
    title = f"Effect of each change, relative to {baseline}"
    figure, panels = row_panels(title, list(larger_is_better), list(effects), 0.2)
    for axes, (name, larger) in zip(panels, larger_is_better.items(), strict=True):
        _draw(axes, [effect.get(name) for effect in effects.values()], larger)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=3)
    return figure


def _draw(axes: Axes, effects: Sequence[Interval | None], larger_is_better: bool) -> None:
    axes.axvline(0.0, color=style.INK, lw=style.THIN)
    known = [(place, one) for place, one in enumerate(effects) if one is not None and np.isfinite(one.mean)]
    largest = _largest_shown([one for _, one in known])
    _frame(axes, [one for _, one in known if abs(one.mean) <= largest])
    for place, one in known:
        colour = NEITHER
        if one.excludes_zero:
            colour = BETTER if (one.mean > 0.0) is larger_is_better else WORSE
        if abs(one.mean) > largest:
            _at_the_edge(axes, place, one.mean, colour)
            continue
        look = {"color": colour, "ms": 4.5, "capsize": 2, "elinewidth": style.LINE, "zorder": 4}
        axes.errorbar([one.mean], [place], xerr=one.half_width, fmt="o", **look)


def _largest_shown(known: Sequence[Interval]) -> float:
    sizes = sorted((abs(one.mean) for one in known), reverse=True)
    while len(sizes) > 1 and sizes[0] > OUTLYING * sizes[1] > 0.0:
        del sizes[0]
    return sizes[0] if sizes else 0.0


def _at_the_edge(axes: Axes, place: int, mean: float, colour: str) -> None:
    look = {"color": colour, "va": "center", "weight": "bold", "transform": axes.get_yaxis_transform(), "zorder": 4}
    if mean > 0.0:
        axes.text(0.99, place, f"{mean:+.3g} \N{RIGHTWARDS ARROW}", ha="right", **look)
    else:
        axes.text(0.01, place, f"\N{LEFTWARDS ARROW} {mean:+.3g}", ha="left", **look)


def _frame(axes: Axes, shown: Sequence[Interval]) -> None:
    """Around the means and the intervals that exclude zero; a wide one that includes zero may leave the panel."""
    limits = [one.mean + side * one.half_width for one in shown if one.excludes_zero for side in (-1.0, 1.0)]
    ends = np.array([0.0, *(one.mean for one in shown), *limits])
    room = 0.15 * float(np.ptp(ends)) or 1e-3
    axes.set_xlim(float(ends.min()) - room, float(ends.max()) + room)


def _legend() -> list[Line2D]:
    interval = f"{CONFIDENCE:.0%} interval of the difference at the same seed".replace("%", " %")
    texts = {BETTER: f"better: the {interval} excludes zero", WORSE: "worse: likewise", NEITHER: "no difference found"}
    return [
        Line2D([], [], marker="o", ms=4.5, color=colour, lw=style.LINE, label=text) for colour, text in texts.items()
    ]
