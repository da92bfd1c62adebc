"""The neural barrier's errors on each stratum of held-out states, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drone_cbf.reporting.figures import style

PANELS = (
    ("Error near the boundary [cm]", {"boundary_error_mean": "mean", "boundary_error_p99": "99 % quantile"}, 100.0),
    ("Over-estimate near the boundary [cm]", {"boundary_overestimate_p99": "99 % quantile"}, 100.0),
    ("Cosine between the gradients of h", {"gradient_cosine": "mean"}, 1.0),
)
"""Title, figures with their labels, and factor from the report's unit to the panel's."""
COLOURS = {"mean": style.BLUE, "99 % quantile": style.VERMILION}


@style.styled
def strata_figure(strata: Mapping[str, Mapping[str, float]]) -> Figure:
    """One panel per figure, one row of bars per stratum.

    ``strata``: stratum to the figures of its report [m, dimensionless]. A figure that is not finite (no state near the
    boundary, say) is written out. Raises ValueError where there is no stratum.
    """
    if not strata:
        raise ValueError("strata_figure: needs at least one stratum")
    figure = style.new_figure(11.0, 1.5 + 0.42 * len(strata), "Held-out sampled states, by stratum")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (title, names, factor) in zip(panels, PANELS, strict=True):
        _draw_bars(axes, strata, names, factor)
        axes.set_title(title)
        axes.grid(True, axis="x")
    panels[0].set_yticks(range(len(strata)), labels=[name.replace("_", " ") for name in strata])
    panels[0].invert_yaxis()
    _zoom_cosine(panels[-1], strata)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _draw_bars(axes: Axes, strata: Mapping[str, Mapping[str, float]], names: Mapping[str, str], factor: float) -> None:
    height, digits = 0.8 / len(names), 4 if factor == 1.0 else 1
    for index, (name, label) in enumerate(names.items()):
        values = np.array([factor * report.get(name, np.nan) for report in strata.values()])
        places = np.arange(len(values)) + (index - 0.5 * (len(names) - 1)) * height
        axes.barh(places, np.nan_to_num(values), height, color=COLOURS[label], label=label, gid=name)
        for place, value in zip(places, values, strict=True):
            text = f" {value:.{digits}f}" if np.isfinite(value) else " no state near the boundary"
            axes.text(max(float(np.nan_to_num(value)), 0.0), place, text, va="center", fontsize=style.SMALL)
    axes.margins(x=0.18)


def _zoom_cosine(axes: Axes, strata: Mapping[str, Mapping[str, float]]) -> None:
    """Starts the axis just below the worst value: good cosines differ in the third digit only."""
    values = [report.get("gradient_cosine", np.nan) for report in strata.values()]
    finite = [value for value in values if np.isfinite(value)]
    if finite:
        axes.set_xlim(min(finite) - 0.3 * (1.0 - min(finite)) - 1e-4, 1.0 + 0.25 * (1.0 - min(finite)) + 1e-4)
