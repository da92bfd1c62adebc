"""Results as the terminal shows them when a run has finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from tabulate import tabulate

from drone_cbf.reporting.tables import cell_text
from drone_cbf.tracking.registry.gates import judge
from projects.inputs.gate_files import load_gates

SUMMED_UP = {
    "success_rate": "min",
    "collisions": "sum",
    "rollouts": "sum",
    "max_violation": "max",
    "final_distance_mean": "max",
}
"""Figure of a cell -> how the cells of one scene and noise level are summed up."""


def terminal_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Plain columns, numbers to four digits."""
    shown = [{name: cell_text(value) for name, value in row.items()} for row in rows]
    return tabulate(shown, headers="keys", tablefmt="simple", disable_numparse=True)


def evaluation_text(cells: Sequence[Mapping[str, object]], figures: Mapping[str, float]) -> str:
    """Scenes by noise with the filter on and off, then the worst cells beside the targets of projects/gates.yaml.

    Args:
        cells: scene, noise [m], ``filtered`` and the figures of each cell of the matrix.
        figures: the worst cell of each figure, by metric name.
    """
    parts = ["Worst over goals, by scene and noise [m] (filter on | off)", terminal_table(by_scene_and_noise(cells))]
    if any(cell["filtered"] for cell in cells):
        parts += ["Targets (projects/gates.yaml) for the worst cell, filter on", terminal_table(target_rows(figures))]
    return "\n\n".join(parts)


def by_scene_and_noise(cells: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """One row per scene and noise level; each figure with the filter on beside off, where both were flown."""
    groups = pd.DataFrame(cells).groupby(["scene", "noise", "filtered"], sort=False).agg(SUMMED_UP)
    rows = []
    for scene, noise in dict.fromkeys((scene, noise) for scene, noise, _ in groups.index):
        states = groups.loc[(scene, noise)].sort_index(ascending=False).to_dict("records")  # filter on first
        rows.append(
            {
                "scene": scene,
                "noise": noise,
                "success": _beside(states, "{success_rate:.3g}"),
                "collisions": _beside(states, "{collisions:.0f}/{rollouts:.0f}"),
                "violation [m/s]": _beside(states, "{max_violation:.3g}"),
                "distance [m]": _beside(states, "{final_distance_mean:.3g}"),
            }
        )
    return rows


def _beside(states: Sequence[Mapping[str, float]], layout: str) -> str:
    return " | ".join(layout.format(**figures) for figures in states)


def target_rows(figures: Mapping[str, float]) -> list[dict[str, object]]:
    """One row per gate: the figure, what it must meet, and whether it does."""
    return [
        {
            "metric": check.metric,
            "value": check.value,
            "target": f"{'>=' if check.greater_is_better else '<='} {check.threshold:g}",
            "": "pass" if check.passed else "FAIL",
        }
        for check in judge(load_gates("default"), figures, None)
    ]
