"""Calibration of the neural barrier: predicted against true h near the boundary, with the margin for the error."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array
from drone_cbf.reporting.tables import percent


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


def _draw_agreement(axes: Axes, true: Array, predicted: Array, margin: float, near: float) -> None:
    line = np.array([-near, near])
    low = min(float(np.quantile(predicted, 0.001)), -near)
    high = max(float(np.quantile(predicted, 0.999)), near + margin) + 0.02
    axes.fill_between(line, line + margin, high, color=style.COLLISION, alpha=0.10, lw=0, label="margin too small")
    axes.fill_between(line, line, line + margin, color=style.BLUE, alpha=0.12, lw=0, label="covered by the margin")
    if len(true) > 3000:
        # From a grey in which a single state is still seen, to ink.
        colours = LinearSegmentedColormap.from_list("density", ["#B8C0C9", style.INK])
        look = {"gridsize": 70, "bins": "log", "cmap": colours, "mincnt": 1, "linewidths": 0.1}
        axes.hexbin(true, predicted, extent=(-near, near, low, high), gid="states", **look)
    else:
        axes.scatter(true, predicted, s=6, color=style.INK, alpha=0.35, lw=0, gid="states")
    axes.plot(line, line, color=style.INK, lw=1.2, label="exact")
    axes.axhline(0.0, color=style.MUTED, lw=0.8)
    axes.axvline(0.0, color=style.MUTED, lw=0.8)
    axes.set(xlim=(-near, near), ylim=(low, high), xlabel="true h [m]", ylabel="predicted h [m]")
    axes.legend(loc="upper left")


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
    style.legend_above(axes)
    axes.grid(True)
