"""The scenario matrix as a heat table: scene and goals down, observation noise across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drone_cbf.reporting.figures import style
from drone_cbf.reporting.records import Array
from drone_cbf.reporting.tables import percent

REQUIRED_SUCCESS = 0.995  # in every cell (DESIGN 5)
_CELL, _RATES = ["scene", "goals", "noise"], ["success_rate", "collision_rate"]


@style.styled
def success_matrix(rows: Sequence[Mapping[str, object]], required_success: float = REQUIRED_SUCCESS) -> Figure:
    """Success and collision rate of every cell; darker colours are worse, failed cells are framed red.

    Each row holds ``scene``, ``goals``, ``noise`` [m], ``success_rate`` and ``collision_rate`` (fractions), and may
    hold ``rollouts``. A cell fails below ``required_success``, or with any collision. Combinations without a row stay
    blank. Raises ValueError for no rows, missing keys, rates outside [0, 1], or a combination that occurs twice.
    """
    cells = _checked(rows)
    names = list(dict.fromkeys(zip(cells["scene"], cells["goals"], strict=True)))
    noises = sorted(set(cells["noise"]))
    pivots = (cells.pivot(index=_CELL[:2], columns="noise", values=key) for key in _RATES)
    success, collision = (pivot.loc[names].to_numpy(float) for pivot in pivots)
    width, height = 3.8 + 1.5 * len(noises), 1.6 + 0.42 * len(names)
    figure = style.new_figure(max(width, 6.4), height, _title(cells))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_table(left, success, 1.0 - success, success < required_success)
    _draw_table(right, collision, collision, collision > 0.0)
    left.set_title(f"success rate (framed: below {percent(required_success)})")
    right.set_title("collision rate (framed: any)")
    for axes in (left, right):
        axes.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
        axes.set_xlabel("observation noise [m]")
        axes.set_yticks(range(len(names)), [f"{scene}, {goals} goals".replace("_", " ") for scene, goals in names])
        axes.tick_params(length=0, labelcolor=style.INK)
    right.tick_params(labelleft=False)
    return figure


def _checked(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    if not rows:
        raise ValueError("success_matrix: no rows; pass one mapping per scene, goals and noise")
    for row in rows:
        if missing := [key for key in (*_CELL, *_RATES) if key not in row]:
            raise ValueError(f"success_matrix: a row lacks {', '.join(missing)}; it holds {', '.join(row)}")
    cells = pd.DataFrame(rows).astype({"scene": str, "goals": str, **dict.fromkeys(("noise", *_RATES), float)})
    for key in _RATES:
        for wrong in cells[key][(cells[key] < 0.0) | (cells[key] > 1.0)]:
            raise ValueError(f"success_matrix: {key} = {wrong} must be a fraction in [0, 1]")
    for twice in cells.loc[cells.duplicated(_CELL), _CELL].itertuples(index=False, name=None):
        raise ValueError(f"success_matrix: {twice} occurs twice; average repeated runs first")
    return cells


def _title(cells: pd.DataFrame) -> str:
    if "rollouts" not in cells or cells["rollouts"].isna().any():
        return "Scenario matrix"
    collisions = (cells["collision_rate"] * cells["rollouts"]).round().sum()
    return f"Scenario matrix: collisions in {collisions:,.0f} of {cells['rollouts'].sum():,.0f} rollouts"


def _draw_table(axes: Axes, shown: Array, shortfall: Array, failed: np.ndarray) -> None:
    colours = LinearSegmentedColormap.from_list("shortfall", ["#DCEBF5", "#FBE3C8", "#F0A868", "#B5452C"])
    colours = colours.with_extremes(bad=style.FAINT)
    # A power scale, as the step from 0.1 % to 1 % matters more than that from 50 % to 51 %.
    axes.imshow(np.ma.masked_invalid(shortfall), cmap=colours, norm=PowerNorm(0.35, 0.0, 1.0), aspect="auto")
    for (row, column), value in np.ndenumerate(shown):
        weight = "bold" if failed[row, column] else "normal"
        ink = style.PAPER if shortfall[row, column] > 0.6 else style.INK
        text = "\N{EN DASH}" if np.isnan(value) else percent(value)
        axes.text(column, row, text, ha="center", va="center", color=ink, fontweight=weight, fontsize=style.BODY)
        if failed[row, column]:
            look = {"fill": False, "ec": style.COLLISION, "lw": 1.8, "zorder": 3, "gid": "failed"}
            axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, **look))
    axes.set_xticks(np.arange(shown.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shown.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=style.PAPER, lw=2.0)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
