"""Colours, sizes and fonts of all figures. Nothing is applied on import; figures are drawn inside ``styled``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure, FigureBase
from matplotlib.style import context
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette (2008): distinguishable with common colour blindness, and by lightness in grey print.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)  # fmt: skip
INK, MUTED, FAINT, PAPER = "#1F2933", "#66727F", "#E3E7EB", "#FFFFFF"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)

COLLISION = "#C1121F"  # reserved for collisions and failed requirements
OBSTACLE, OBSTACLE_EDGE, HALO = "#9AA5B1", "#52606D", "#DDE2E7"
GROUND, SEEN, MOVING = "#EDE7DB", PURPLE, "#7F9DB5"  # the ground, points that a sensor hit, obstacles that move
ACTED = ORANGE  # where the filter changed the nominal command
BARRIER, TRUE_BARRIER = BLUE, INK
# Diverging colour maps of h (red: cannot stop, blue: can) and of its error (orange: over-estimate).
SAFE_SCALE, ERROR_SCALE = "RdBu", "PuOr_r"

DPI = 150
SMALL, BODY, HEADING = 8.0, 9.0, 12.0  # font sizes [pt]
THIN, LINE, BOLD = 0.8, 1.6, 2.6  # line widths [pt]
PANEL = 3.6  # side of one small multiple [inch]

styled = context(
    {
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": BODY, "text.color": INK,
        "axes.titlesize": BODY + 0.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
        "axes.labelsize": BODY, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.linewidth": THIN,
        "axes.facecolor": PAPER, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "axes.formatter.useoffset": False, "grid.color": FAINT, "grid.linewidth": THIN, "lines.linewidth": LINE,
        "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL, "legend.frameon": True, "legend.framealpha": 0.85, "legend.edgecolor": "none",
        "figure.dpi": DPI, "figure.facecolor": PAPER, "figure.titlesize": HEADING, "figure.titleweight": "bold",
    },
    after_reset=True,
)  # fmt: skip
"""Decorator: draws under these settings alone; the caller's settings are untouched, a user's matplotlibrc ignored."""


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """A figure [inch] that pyplot does not manage: it is freed with its last reference."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.07, w_pad=0.06)
    if title:
        figure.suptitle(title, x=0.012, ha="left")
    return figure


def speed_scale() -> Colormap:
    """Viridis without its lightest tenth, which is invisible on white."""
    return LinearSegmentedColormap.from_list("speed", matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 64)))


def say_empty(axes: Axes, text: str) -> None:
    """Write in the middle of a panel why it holds no data, and drop its scale."""
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=SMALL)


def panel_grid(figure: FigureBase, count: int, columns: int, **look: Any) -> list[Axes]:
    """``count`` panels in rows of ``columns``; the rest of the last row stays blank."""
    panels = figure.subplots(-(-count // columns), columns, squeeze=False, **look).ravel()
    for axes in panels[count:]:
        axes.remove()
    return list(panels[:count])


def colour_bar(figure: FigureBase, shown: ScalarMappable, panels: Sequence[Axes], label: str, **look: Any) -> None:
    """One colour bar beside ``panels``, without a frame."""
    bar = figure.colorbar(shown, ax=list(panels), **look)
    bar.set_label(label)
    bar.outline.set_visible(False)


def legend_above(axes: Axes) -> None:
    """Legend above the panel, where it covers no data."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.1, borderpad=0.1)


def few_ticks(most: int = 4) -> MaxNLocator:
    """At most ``most`` + 1 round ticks."""
    return MaxNLocator(most, steps=[1, 2, 5, 10])
