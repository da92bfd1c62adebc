"""How the neural barrier differs from the analytic one: on a plane, near its boundary, and by stratum of states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import slice_axes, style
from drone_cbf.reporting.records import Array, BarrierSlice
from drone_cbf.reporting.tables import percent

NEAR_BOUNDARY = 0.2  # |analytic h| below this counts as near the boundary, where an error costs safety [m]
STRATA_PANELS = (
    ("Error near the boundary [cm]", {"boundary_error_mean": "mean", "boundary_error_p99": "99 % quantile"}, 100.0),
    ("Over-estimate near the boundary [cm]", {"boundary_overestimate_p99": "99 % quantile"}, 100.0),
    ("Cosine between the gradients of h", {"gradient_cosine": "mean"}, 1.0),
)
"""Title, figures with their labels, and factor from the report's unit to the panel's."""


@style.styled
def barrier_heatmap(data: BarrierSlice) -> Figure:
    """Analytic and neural h on one scale centred at zero [m], and neural - analytic on its own scale [cm].

    Bold lines: h = 0 (the difference panel repeats both). The arrow is the velocity at which the drone would be at
    each point; outlines are the obstacles at the height of the slice, dotted ones lie above or below it.
    """
    figure = style.new_figure(12.6, slice_axes.figure_height(data.x, data.y), _title(data))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    error = 100.0 * (data.neural - data.analytic)
    scale = slice_axes.centred_norm(np.stack([data.analytic, data.neural]), least=1e-3), style.SAFE_SCALE
    own = slice_axes.centred_norm(error, least=1e-2), style.ERROR_SCALE
    shown = (("analytic", data.analytic, *scale), ("neural", data.neural, *scale),
             ("neural \N{MINUS SIGN} analytic", error, *own))  # fmt: skip
    meshes = []
    for axes, (name, values, norm, colours) in zip(panels, shown, strict=True):
        meshes.append(slice_axes.draw_values(axes, data.x, data.y, values, norm, colours))
        axes.set(title=name, xlabel="x [m]", aspect="equal")
        slice_axes.draw_outlines(axes, data.x, data.y, data.obstacles, data.height)
    slice_axes.zero_contour(panels[0], data.x, data.y, data.analytic)
    slice_axes.zero_contour(panels[1], data.x, data.y, data.neural)
    slice_axes.zero_contour(panels[2], data.x, data.y, data.analytic, width=style.LINE)
    slice_axes.zero_contour(panels[2], data.x, data.y, data.neural, style.LINE, style.GREEN, "--")
    panels[0].set_ylabel("y [m]")
    slice_axes.draw_velocity(panels[0], data.x, data.y, data.velocity)
    bar = {"extend": "both", "shrink": 0.92, "aspect": 26, "pad": 0.02}
    style.colour_bar(figure, meshes[1], panels[:2], "h [m]   red: cannot stop in time", **bar)
    style.colour_bar(figure, meshes[2], panels[2:], "difference [cm]   orange: over-estimate", **bar)
    figure.legend(handles=_legend(data), loc="outside lower left", ncols=4)
    return figure


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


@style.styled
def strata_figure(strata: Mapping[str, Mapping[str, float]]) -> Figure:
    """One panel per figure, one row of bars per stratum.

    ``strata``: stratum to the figures of its report [m, dimensionless]. A figure that is not finite (no state near the
    boundary, say) is written out. Raises ValueError where there is no stratum.
    """
    if not strata:
        raise ValueError("strata_figure: needs at least one stratum")
    figure = style.new_figure(11.0, 1.5 + 0.42 * len(strata), "Held-out sampled states, by stratum")
    panels = figure.subplots(1, len(STRATA_PANELS), sharey=True)
    for axes, (title, names, factor) in zip(panels, STRATA_PANELS, strict=True):
        _draw_bars(axes, strata, names, factor)
        axes.set_title(title)
        axes.grid(True, axis="x")
    panels[0].set_yticks(range(len(strata)), labels=[name.replace("_", " ") for name in strata])
    panels[0].invert_yaxis()
    # The axis of the cosine starts just below its worst value: good ones differ in the third digit only.
    worst = np.fmin.reduce([report.get("gradient_cosine", np.nan) for report in strata.values()])
    if np.isfinite(worst):
        panels[-1].set_xlim(worst - 0.3 * (1.0 - worst) - 1e-4, 1.0 + 0.25 * (1.0 - worst) + 1e-4)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def boundary_error(barrier_slice: BarrierSlice) -> Array:
    """Neural - analytic [m] at the points where |analytic| is below ``NEAR_BOUNDARY``, (N,)."""
    near = np.abs(barrier_slice.analytic) < NEAR_BOUNDARY
    error = (barrier_slice.neural - barrier_slice.analytic)[near]
    return error[np.isfinite(error)]


def _title(data: BarrierSlice) -> str:
    title = f"Barrier h at height {data.height:.2f} m, speed {np.linalg.norm(data.velocity):.1f} m/s"
    error = boundary_error(data)
    if not len(error):
        return title
    mean, high = 100.0 * np.abs(error).mean(), 100.0 * error.max()
    return f"{title}.  Near h = 0: mean |error| {mean:.1f} cm, largest over-estimate {high:+.1f} cm"


def _legend(data: BarrierSlice) -> list[Line2D]:
    neural = Line2D([], [], color=style.GREEN, lw=style.LINE, ls="--", label="neural h = 0 (difference panel)")
    zero, obstacle, missed = slice_axes.legend_handles(data.drone_radius)
    return [zero, neural, obstacle, missed]


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


def _draw_bars(axes: Axes, strata: Mapping[str, Mapping[str, float]], names: Mapping[str, str], factor: float) -> None:
    height, digits = 0.8 / len(names), 4 if factor == 1.0 else 1
    for index, (name, label) in enumerate(names.items()):
        values = np.array([factor * report.get(name, np.nan) for report in strata.values()])
        places = np.arange(len(values)) + (index - 0.5 * (len(names) - 1)) * height
        colour = style.BLUE if label == "mean" else style.VERMILION
        axes.barh(places, np.nan_to_num(values), height, color=colour, label=label, gid=name)
        for place, value in zip(places, values, strict=True):
            text = f" {value:.{digits}f}" if np.isfinite(value) else " no state near the boundary"
            axes.text(max(float(np.nan_to_num(value)), 0.0), place, text, va="center", fontsize=style.SMALL)
    axes.margins(x=0.18)
