"""Figures of a search for good settings: its course, what matters, and which values go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array
from drone_cbf.reporting.tables import shortened

LONGEST_NAME = 30
"""Characters of a setting's name in a figure."""


@dataclass(frozen=True)
class SearchedSetting:
    """A setting that is searched, and how its axis is drawn."""

    name: str
    low: float
    high: float
    log: bool = False
    choices: tuple[str, ...] = ()
    """Values of a setting without an order; they lie at 0, 1, ... from ``low`` to ``high``."""

    def place(self, value: float) -> float:
        """Position from 0 (``low``) to 1."""
        ends = np.array([self.low, value, self.high], float)
        low, middle, high = np.log(ends) if self.log else ends
        return float((middle - low) / (high - low))


@dataclass(frozen=True)
class Tried:
    """One trial."""

    number: int
    values: Mapping[str, float]
    """By the name of the setting; the index of a choice."""
    outcome: float | None
    """The objective; None where it was not reached."""
    is_pruned: bool = False


@style.styled
def course_figure(trials: Sequence[Tried], metric: str, maximise: bool) -> Figure:
    """The objective of every trial in order, and the best so far. Raises ValueError where no trial is done."""
    done = _done(trials, "course_figure")
    figure = style.new_figure(7.6, 3.6)
    axes = figure.subplots()
    numbers, outcomes = (np.array([one(trial) for trial in done], float) for one in (_number, _outcome))
    best = (np.maximum if maximise else np.minimum).accumulate(outcomes)
    ends = np.append(numbers, max(trial.number for trial in trials) + 1)
    axes.step(
        ends, np.append(best, best[-1]), where="post", color=style.BLUE, lw=style.LINE, label="best so far", gid="best"
    )
    axes.plot(numbers, outcomes, "o", color=style.INK, ms=5, label="done", gid="done")
    low = axes.get_ylim()[0]
    for label, colour, marker, chosen in (
        ("stopped early", style.ORANGE, "v", [trial for trial in trials if trial.is_pruned]),
        ("failed", style.COLLISION, "x", [one for one in trials if one.outcome is None and not one.is_pruned]),
    ):
        if chosen:
            place = [_number(trial) for trial in chosen]
            axes.plot(place, [low] * len(place), marker, color=colour, ms=6, label=label, gid=label, clip_on=False)
    axes.set(xlabel="trial", ylabel=metric, ylim=(low, None))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(True)
    style.legend_above(axes)
    return figure


@style.styled
def importance_figure(shares: Mapping[str, float]) -> Figure:
    """Share of each setting in the variance of the objective. Raises ValueError where none is known."""
    if not shares:
        raise ValueError("importance_figure: no setting has a known share; more trials are needed")
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure = style.new_figure(7.6, 0.42 * len(ordered) + 1.1)
    axes = figure.subplots()
    names = [shortened(name, LONGEST_NAME) for name, _ in ordered]
    bars = axes.barh(names, [share for _, share in ordered], color=style.BLUE, height=0.62)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4)
    axes.set(xlabel="share of the objective's variance", xlim=(0.0, 1.08 * ordered[-1][1]))
    axes.tick_params(axis="y", length=0)
    return figure


@style.styled
def parallel_figure(
    trials: Sequence[Tried], settings: Sequence[SearchedSetting], metric: str, maximise: bool
) -> Figure:
    """One axis per setting, one line per trial, coloured by its objective; the best on top, stopped ones grey.

    Raises ValueError where no trial is done.
    """
    done = _done(trials, "parallel_figure")
    outcomes = [_outcome(trial) for trial in done]
    colours = ScalarMappable(Normalize(min(outcomes), max(outcomes)), style.speed_scale())
    figure = style.new_figure(max(6.4, 2.0 * len(settings) + 1.8), 4.4)
    axes = figure.subplots()
    for trial in (trial for trial in trials if trial.is_pruned):
        axes.plot(_places(trial, settings), color=style.MUTED, lw=style.THIN, alpha=0.6, ls="--", gid="pruned")
    for trial in sorted(done, key=_outcome, reverse=not maximise):
        is_best = _outcome(trial) == (max if maximise else min)(outcomes)
        look: dict[str, Any] = {"lw": style.BOLD if is_best else 1.2, "gid": "best" if is_best else "done"}
        axes.plot(_places(trial, settings), color=colours.to_rgba(_outcome(trial)), marker="o", ms=4, **look)
    for place, setting in enumerate(settings):
        _draw_axis(axes, place, setting)
    axes.set(xlim=(-0.3, len(settings) - 0.55), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(settings)), [shortened(setting.name, LONGEST_NAME) for setting in settings])
    axes.tick_params(axis="x", length=0, labelcolor=style.INK)
    axes.spines[["left", "bottom"]].set_visible(False)
    style.colour_bar(figure, colours, [axes], metric)
    return figure


@style.styled
def slices_figure(trials: Sequence[Tried], settings: Sequence[SearchedSetting], metric: str) -> Figure:
    """The objective over every setting alone, later trials darker. Raises ValueError where no trial is done."""
    done = _done(trials, "slices_figure")
    columns = min(3, len(settings))
    figure = style.new_figure(3.4 * columns + 0.6, 2.6 * -(-len(settings) // columns) + 0.3)
    panels = style.panel_grid(figure, len(settings), columns, sharey=True)
    shades = np.linspace(0.35, 1.0, len(done))
    for axes, setting in zip(panels, settings, strict=True):
        axes.scatter([trial.values[setting.name] for trial in done], [_outcome(trial) for trial in done],
                     s=26, c=style.BLUE, alpha=shades, lw=0, gid="trials")  # fmt: skip
        axes.set_xlabel(shortened(setting.name, LONGEST_NAME))
        if setting.choices:
            axes.set_xticks(range(len(setting.choices)), setting.choices)
            axes.set_xlim(-0.5, len(setting.choices) - 0.5)
        else:
            axes.set_xscale("log" if setting.log else "linear")
            axes.set_xlim(setting.low, setting.high)
            axes.xaxis.set_minor_formatter(NullFormatter())  # between decades their labels would overlap
        axes.grid(True)
    for axes in panels[::columns]:
        axes.set_ylabel(metric)
    return figure


def _done(trials: Sequence[Tried], name: str) -> list[Tried]:
    done = [trial for trial in trials if trial.outcome is not None]
    if not done:
        raise ValueError(f"{name}: no trial is done")
    return done


def _outcome(trial: Tried) -> float:
    assert trial.outcome is not None
    return trial.outcome


def _number(trial: Tried) -> float:
    """As people count."""
    return trial.number + 1.0


def _places(trial: Tried, settings: Sequence[SearchedSetting]) -> Array:
    return np.array([setting.place(trial.values[setting.name]) for setting in settings])


def _draw_axis(axes: Axes, place: int, setting: SearchedSetting) -> None:
    """An upright line with its ends, or its choices, written beside it."""
    axes.axvline(place, color=style.MUTED, lw=style.THIN, zorder=0)
    labels = {0.0: f"{setting.low:g}", 1.0: f"{setting.high:g}"}
    if setting.choices:
        labels = {setting.place(index): text for index, text in enumerate(setting.choices)}
    elif setting.log:
        decades = np.arange(np.ceil(np.log10(setting.low)), np.floor(np.log10(setting.high)) + 1)
        labels |= {setting.place(10.0**decade): f"{10.0**decade:g}" for decade in decades}
    for height, text in labels.items():
        axes.annotate(text, (place, height), (4, 0), textcoords="offset points", size=style.SMALL, va="center",
                      color=style.MUTED, bbox={"fc": style.PAPER, "ec": "none", "pad": 0.6, "alpha": 0.8})  # fmt: skip
