"""What the neural barrier learned: its values on a plane beside the analytic barrier's, and their difference."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drone_cbf.reporting.figures import scene_axes, style
from drone_cbf.reporting.records import Array, BarrierSlice

NEAR_BOUNDARY = 0.2
"""|analytic h| below this counts as near the boundary, where an error costs safety [m]."""
SHOWN_QUANTILE = 0.98
"""Colours saturate beyond this quantile: values deep inside an obstacle would otherwise hide those at its edge."""


@style.styled
def barrier_heatmap(barrier_slice: BarrierSlice) -> Figure:
    """Analytic and neural h on one scale centred at zero [m], and neural - analytic on its own scale [cm].

    Bold lines: h = 0 (the difference panel repeats both). The arrow is the velocity at which the drone would be at
    each point; outlines are the obstacles at the height of the slice, dotted ones lie above or below it.
    """
    data = barrier_slice
    figure = style.new_figure(*_size(data), _title(data))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    both = np.stack([data.analytic, data.neural])
    scale = CenteredNorm(0.0, _half_range(both, least=1e-3))
    error = 100.0 * (data.neural - data.analytic)
    error_scale = CenteredNorm(0.0, _half_range(error, least=1e-2))
    _draw_values(panels[0], data, data.analytic, scale, style.SAFE_SCALE)
    shared = _draw_values(panels[1], data, data.neural, scale, style.SAFE_SCALE)
    own = _draw_values(panels[2], data, error, error_scale, style.ERROR_SCALE)
    _zero_contour(panels[0], data, data.analytic)
    _zero_contour(panels[1], data, data.neural)
    _zero_contour(panels[2], data, data.analytic, width=style.LINE)
    _zero_contour(panels[2], data, data.neural, style.LINE, style.GREEN, "--")
    for axes, name in zip(panels, ("analytic", "neural", "neural \N{MINUS SIGN} analytic"), strict=True):
        axes.set(title=name, xlabel="x [m]", aspect="equal")
        _draw_outlines(axes, data)
    panels[0].set_ylabel("y [m]")
    _draw_velocity(panels[0], data)
    bar = {"extend": "both", "shrink": 0.92, "aspect": 26, "pad": 0.02}
    style.colour_bar(figure, shared, panels[:2], "h [m]   red: cannot stop in time", **bar)
    style.colour_bar(figure, own, panels[2:], "difference [cm]   orange: over-estimate", **bar)
    figure.legend(handles=_legend(data), loc="outside lower left", ncols=4)
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


def _size(data: BarrierSlice) -> tuple[float, float]:
    flatness = np.ptp(data.y) / np.ptp(data.x)
    return 12.6, float(np.clip(3.45 * flatness, 1.5, 6.0)) + 1.5


def _half_range(values: Array, least: float) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.quantile(finite, SHOWN_QUANTILE)), least)


def _draw_values(axes: Axes, data: BarrierSlice, values: Array, scale: CenteredNorm, colours: str) -> ScalarMappable:
    axes.set_facecolor(style.HALO)  # visible where values are NaN (not evaluated)
    return axes.pcolormesh(data.x, data.y, np.ma.masked_invalid(values), norm=scale, cmap=colours, shading="nearest")


def _zero_contour(
    axes: Axes, data: BarrierSlice, values: Array, width: float = style.BOLD, colour: str = style.INK, dashes: str = "-"
) -> None:
    finite = values[np.isfinite(values)]
    if finite.min() < 0.0 < finite.max():  # matplotlib warns if the level does not occur
        masked = np.ma.masked_invalid(values)
        axes.contour(data.x, data.y, masked, levels=[0.0], colors=colour, linewidths=width, linestyles=dashes)


def _draw_outlines(axes: Axes, data: BarrierSlice) -> None:
    look = {"fc": "none", "ec": style.MUTED, "lw": 1.0, "zorder": 1.5}
    scene_axes.draw_sections(axes, data.obstacles.table(), data.height, look, {**look, "ls": ":"})
    # Patches would widen the limits to obstacles outside the grid, where nothing was evaluated.
    axes.set(xlim=(data.x[0], data.x[-1]), ylim=(data.y[0], data.y[-1]))


def _draw_velocity(axes: Axes, data: BarrierSlice) -> None:
    """Arrow in the lower left corner along the horizontal velocity; its length is the distance flown in 0.4 s."""
    horizontal = data.velocity[:2]
    box = {"fc": style.PAPER, "ec": "none", "alpha": 0.8, "pad": 2.5}
    text = f"v = ({', '.join(f'{component:.1f}' for component in data.velocity)}) m/s"
    axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=style.SMALL, bbox=box, zorder=5)
    if np.linalg.norm(horizontal) < 1e-6:
        return
    span = np.array([np.ptp(data.x), np.ptp(data.y)])
    middle = np.array([data.x[0], data.y[0]]) + np.array([0.14, 0.2]) * span
    reach = min(0.4, 0.2 * span.min() / np.linalg.norm(horizontal))
    look = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "lw": 2.2, "color": style.INK}
    look |= {"shrinkA": 0, "shrinkB": 0}
    tail, head = middle - 0.5 * reach * horizontal, middle + 0.5 * reach * horizontal
    axes.annotate("", head, tail, arrowprops=look, zorder=5)


def _legend(data: BarrierSlice) -> list[Line2D]:
    handles = [Line2D([], [], color=style.INK, lw=style.BOLD, label="h = 0")]
    handles.append(Line2D([], [], color=style.GREEN, lw=style.LINE, ls="--", label="neural h = 0 (difference panel)"))
    marker = {"marker": "o", "ls": "none", "ms": 8, "mfc": "none", "mec": style.MUTED}
    handles.append(Line2D([], [], label=f"obstacle (drone radius {data.drone_radius:.2f} m)", **marker))
    return [*handles, scene_axes.missed_handle()]
