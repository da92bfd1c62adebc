"""Draws values of a barrier over a horizontal slice on one panel: colours, zero line, obstacles and velocity."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.lines import Line2D

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import sections, style
from drone_cbf.reporting.obstacles import Obstacles

SHOWN_QUANTILE = 0.98
"""Colours saturate beyond this quantile: values deep inside an obstacle would otherwise hide those at its edge."""


def figure_height(x: Array, y: Array) -> float:
    """Height of a figure [inch] with three panels over the grid side by side on a page's width."""
    return float(np.clip(3.45 * np.ptp(y) / np.ptp(x), 1.5, 6.0)) + 1.5


def centred_norm(values: Array, least: float) -> CenteredNorm:
    """A scale centred at zero that reaches ``SHOWN_QUANTILE`` of the finite |values|, at least ``least``."""
    finite = np.abs(values[np.isfinite(values)])
    return CenteredNorm(0.0, max(float(np.quantile(finite, SHOWN_QUANTILE)), least))


def draw_values(axes: Axes, x: Array, y: Array, values: Array, norm: CenteredNorm, colours: str) -> QuadMesh:
    """Values (ny, nx) as colours; grey where they are not finite (not evaluated)."""
    axes.set_facecolor(style.HALO)
    return axes.pcolormesh(x, y, np.ma.masked_invalid(values), norm=norm, cmap=colours, shading="nearest")


def zero_contour(
    axes: Axes,
    x: Array,
    y: Array,
    values: Array,
    width: float = style.BOLD,
    colour: str = style.INK,
    dashes: str = "-",
) -> None:
    """A line where values (ny, nx) are zero."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() < 0.0 < finite.max():  # matplotlib warns if the level does not occur
        look = {"colors": colour, "linewidths": width, "linestyles": dashes}
        axes.contour(x, y, np.ma.masked_invalid(values), levels=[0.0], **look)


def draw_outlines(axes: Axes, x: Array, y: Array, obstacles: Obstacles, height: float) -> None:
    """Outlines of the obstacles at ``height`` [m], dotted above or below it; sets the limits to the grid."""
    look = {"fc": "none", "ec": style.MUTED, "lw": 1.0, "zorder": 1.5}
    sections.draw_sections(axes, obstacles, height, look, {**look, "ls": ":"})
    # Patches would widen the limits to obstacles outside the grid, where nothing was evaluated.
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def draw_velocity(axes: Axes, x: Array, y: Array, velocity: Array) -> None:
    """Arrow in the lower left corner along the horizontal velocity; its length is the distance flown in 0.4 s."""
    horizontal = velocity[:2]
    box = {"fc": style.PAPER, "ec": "none", "alpha": 0.8, "pad": 2.5}
    text = f"v = ({', '.join(f'{component:.1f}' for component in velocity)}) m/s"
    axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=style.SMALL, bbox=box, zorder=5)
    if np.linalg.norm(horizontal) < 1e-6:
        return
    span = np.array([np.ptp(x), np.ptp(y)])
    middle = np.array([x[0], y[0]]) + np.array([0.14, 0.2]) * span
    half = 0.5 * min(0.4, 0.2 * span.min() / np.linalg.norm(horizontal)) * horizontal
    look = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", middle + half, middle - half, arrowprops={"color": style.INK, **look}, zorder=5)


def legend_handles(drone_radius: float) -> tuple[Line2D, Line2D, Line2D]:
    """Handles of the zero line, of an obstacle, and of one above or below the slice."""
    marker = {"marker": "o", "ls": "none", "ms": 8, "mfc": "none", "mec": style.MUTED}
    obstacle = Line2D([], [], label=f"obstacle (drone radius {drone_radius:.2f} m)", **marker)
    return Line2D([], [], color=style.INK, lw=style.BOLD, label="h = 0"), obstacle, sections.missed_handle()
