"""Figures of numbers: training curves, the success matrix, and the calibration of the neural barrier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array
from drone_cbf.reporting.tables import percent

LOG_DECADES = 2.0
"""A panel whose values are positive and span more than this many decades gets a logarithmic axis."""
WINDOW_FRACTION = 0.03
"""Width of the smoothing window, as a fraction of the recorded points."""

SMOOTHED_FROM = 40
"""Curves of fewer records (evaluations, say) are drawn as they are, with a dot for each."""


@style.styled
def training_curves(
    history: Sequence[Mapping[str, float]], groups: Mapping[str, Sequence[str]], step_key: str = "step"
) -> Figure:
    """One panel per group of metrics: recorded values pale, their running mean on top.

    ``history``: one mapping per record; a metric may be absent from some. ``groups``: panel title to metric names.
    Values that are not finite are left out and counted in the legend. Raises ValueError where the history or the
    groups are empty, or no record holds ``step_key``.
    """
    if not history or not groups:
        raise ValueError("training_curves: needs at least one record and one group of metrics")
    if not any(step_key in record for record in history):
        raise ValueError(f"training_curves: no record holds {step_key!r}; pass step_key")
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure = style.new_figure(4.0 * columns + 0.6, 2.5 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (title, names) in zip(panels, groups.items(), strict=False):
        series = {name: _series(history, name, step_key) for name in names}
        _draw_group(axes, title, series)
    for axes in panels[len(groups) :]:
        axes.remove()
    for axes in panels[max(0, len(groups) - columns) : len(groups)]:
        axes.set_xlabel(step_key)
        axes.tick_params(labelbottom=True)
    return figure


def smooth(values: Array, window: int) -> Array:
    """Running mean over ``window`` points centred on each, (N,); over those that exist, towards both ends."""
    total, index, half = np.concatenate([[0.0], np.cumsum(values)]), np.arange(len(values)), window // 2
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)


@style.styled
def calibration_figure(true: Array, predicted: Array, margin: float, near: float = 0.3) -> Figure:
    """Predicted against true h near the boundary, and the distribution of the error, with the calibrated margin.

    ``true``, ``predicted``: h of the analytic and the neural barrier at the same states [m], (N,). ``margin``: what the
    filter subtracts from the prediction [m]. ``near``: only states with |true| below it count [m]. In the red region
    the margin does not cover the over-estimate. Raises ValueError where the shapes differ or no state is near.
    """
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(f"calibration_figure: true {true.shape} and predicted {predicted.shape} must be (N,) alike")
    chosen = np.isfinite(true) & np.isfinite(predicted) & (np.abs(true) < near)
    if not chosen.any():
        raise ValueError(f"calibration_figure: none of {len(true)} states has |true h| < {near} m; raise `near`")
    true, predicted = true[chosen], predicted[chosen]
    error = 100.0 * (predicted - true)
    beyond = float((error > 100.0 * margin).mean())
    covered = f"margin {100 * margin:.1f} cm covers {percent(1.0 - beyond)} of {len(true):,} states"
    figure = style.new_figure(9.6, 4.4, f"Neural barrier near its boundary: {covered}")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05))
    _draw_agreement(left, true, predicted, margin, near)
    _draw_errors(right, error, 100.0 * margin)
    return figure


def _series(history: Sequence[Mapping[str, float]], name: str, step_key: str) -> Array:
    """(step, value) rows of the records that hold both, ordered by step, (N, 2)."""
    rows = [(record[step_key], record[name]) for record in history if name in record and step_key in record]
    table = np.array(rows, float).reshape(-1, 2)
    return table[np.argsort(table[:, 0], kind="stable")]


def _draw_group(axes: Axes, title: str, series: Mapping[str, Array]) -> None:
    axes.set_title(title)
    axes.grid(True)
    finite = {name: table[np.isfinite(table[:, 1])] for name, table in series.items()}
    values = np.concatenate([np.zeros(0), *(table[:, 1] for table in finite.values())])
    if not len(values):
        style.say_empty(axes, "not recorded")
        return
    logarithmic = values.min() > 0.0 and np.log10(values.max() / values.min()) > LOG_DECADES
    axes.set_yscale("log" if logarithmic else "linear")
    for index, (name, table) in enumerate(finite.items()):
        label = name.split("/", 1)[-1] + _lost(len(series[name]) - len(table))
        _draw_curve(axes, table, style.CYCLE[index % len(style.CYCLE)], label, logarithmic)
    columns = 2 if len(finite) > 3 else 1
    axes.legend(loc="best", ncols=columns, frameon=True, framealpha=0.85, edgecolor="none", handlelength=1.2)


def _draw_curve(axes: Axes, table: Array, colour: str, label: str, logarithmic: bool) -> None:
    step, value = table.T
    few = len(value) < SMOOTHED_FROM
    window = 1 if few else max(3, round(WINDOW_FRACTION * len(value)))
    # On a logarithmic axis the geometric mean runs through the middle of what is seen; the plain one along its top.
    middle = np.exp(smooth(np.log(value), window)) if logarithmic else smooth(value, window)
    axes.plot(step, value, color=colour, lw=0.8, alpha=0.28, gid="raw")
    axes.plot(step, middle, color=colour, lw=style.LINE, label=label, marker="o" if few else "", ms=3, gid="smooth")


def _lost(count: int) -> str:
    return f" ({count} not finite)" if count else ""


def _draw_agreement(axes: Axes, true: Array, predicted: Array, margin: float, near: float) -> None:
    line = np.array([-near, near])
    low = min(float(np.quantile(predicted, 0.001)), -near)
    high = max(float(np.quantile(predicted, 0.999)), near + margin) + 0.02
    axes.fill_between(line, line + margin, high, color=style.COLLISION, alpha=0.10, lw=0, label="margin too small")
    axes.fill_between(line, line, line + margin, color=style.BLUE, alpha=0.12, lw=0, label="covered by the margin")
    if len(true) > 3000:
        look = {"gridsize": 70, "bins": "log", "cmap": _density(), "mincnt": 1, "linewidths": 0.1}
        axes.hexbin(true, predicted, extent=(-near, near, low, high), gid="states", **look)
    else:
        axes.scatter(true, predicted, s=6, color=style.INK, alpha=0.35, lw=0, gid="states")
    axes.plot(line, line, color=style.INK, lw=1.2, label="exact")
    axes.axhline(0.0, color=style.MUTED, lw=0.8)
    axes.axvline(0.0, color=style.MUTED, lw=0.8)
    axes.set(xlim=(-near, near), ylim=(low, high), xlabel="true h [m]", ylabel="predicted h [m]")
    axes.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")


def _density() -> LinearSegmentedColormap:
    """From a grey that a single state is still seen in, to ink."""
    return LinearSegmentedColormap.from_list("density", ["#B8C0C9", style.INK])


def _draw_errors(axes: Axes, error: Array, margin: float) -> None:
    """Counts on a logarithmic axis: the margin is about the tail, which a linear one hides. Units: cm."""
    half = max(float(np.abs(error).max()), abs(margin), 0.1) * 1.05
    axes.hist(error, bins=81, range=(-half, half), color=style.SKY, edgecolor="none", gid="errors")
    axes.axvspan(min(margin, half), half, color=style.COLLISION, alpha=0.10, lw=0)
    axes.axvline(0.0, color=style.MUTED, lw=0.8)
    axes.axvline(margin, color=style.COLLISION, lw=1.6, label=f"margin {margin:.1f} cm")
    quantile = float(np.quantile(error, 0.999))
    axes.axvline(quantile, color=style.INK, lw=1.2, ls="--", label=f"99.9 % quantile {quantile:.1f} cm")
    axes.plot([], [], " ", label=f"mean |error| {np.abs(error).mean():.2f} cm")
    axes.set_yscale("log")
    axes.set(xlim=(-half, half), ylim=(0.7, None), xlabel="predicted \N{MINUS SIGN} true h [cm]", ylabel="states")
    axes.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")
    axes.grid(True)
