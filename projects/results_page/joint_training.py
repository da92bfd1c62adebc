"""Joint training on a results page: whether the barrier's losses fall at blend 1 and success stays above threshold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from drone_cbf.training.curriculum.mechanisms import LossWeights, Monitor
from projects.inputs.curriculum_files import ABLATIONS
from projects.results_page.data import COLUMNS
from projects.results_page.figures import NOT_MEASURED, Row

LOSSES = ("cbf_value", "cbf_gradient", "cbf_safe", "cbf_unsafe", "cbf_hdot")
"""Of the barrier, without ``loss/``."""
UPDATES = 10
"""At either end of the training at blend 1 that are compared."""
BLEND, STAGE, SUCCESS = "curriculum/blend", "curriculum/stage", "eval/success_rate"
HELD_OUT = {name: (f"held_out/{name}_before", f"held_out/{name}_after") for name in LOSSES}
METRICS = (*(f"loss/{name}" for name in LOSSES), *itertools.chain(*HELD_OUT.values()), BLEND, STAGE, SUCCESS)
"""Whose histories are read."""
STATES = {"updates": "by updates", "held out": "held out"}
"""On which losses are compared -> title."""


def joint_training(policies: pd.DataFrame, losses: pd.DataFrame) -> dict[str, Any] | None:
    """A row for each run of joint training that has losses at blend 1, ablations only counted; None for no such run."""
    before, after = losses["before_mean"], losses["after_mean"]
    # A loss that stays zero counts as falling, NaN does not.
    losses = losses.assign(falls=(after < before) | ((before == 0.0) & (after == 0.0)))
    known = policies["policy"].isin(losses[losses["states"] == "updates"]["policy"])
    runs = policies[known].drop_duplicates("trained", keep="last").sort_values(["group", "seed"])
    if runs.empty:
        return None
    rows = [_row(run, losses[losses["policy"] == run.policy]) for run in runs.itertuples()]
    ablation = [name.startswith(ABLATIONS) for name in runs["curriculum"]]
    listed = [row for row, one in zip(rows, ablation, strict=True) if not one]
    return {
        "rows": listed,
        "falls": [row["fall, by updates"] == "yes" for row in listed],
        "held_out": [row["fall, held out"] == "yes" for row in listed if row["fall, held out"] != NOT_MEASURED],
        "holds": [row["success holds"] == "yes" for row in listed if "success holds" in row],
        "ablations": [row["fall, by updates"] == "yes" for row, one in zip(rows, ablation, strict=True) if one],
    }


def _row(run: Any, losses: pd.DataFrame) -> Row:
    row: Row = {"curriculum": f"`{run.group}`", "seed": run.seed}
    for states, title in reversed(STATES.items()):
        changes = losses[losses["states"] == states].set_index("loss")
        changes = changes.loc[[name for name in LOSSES if name in changes.index]]
        row |= {f"`{name}`, {title}": _change_text(change) for name, change in changes.iterrows()}
        rising = [f"`{name}`" for name in changes.index[~changes["falls"]]]
        row[f"fall, {title}"] = NOT_MEASURED if changes.empty else f"**no**: {', '.join(rising)}" if rising else "yes"
    if not run.measurements > 0:
        return row | {"success below threshold": NOT_MEASURED}
    row["success below threshold"] = f"{run.below:.0f} of {run.measurements:.0f}"
    row |= {"longest run": f"{run.longest:.0f}", "patience": f"{run.patience:.0f}"}
    return row | {"success holds": "yes" if run.longest <= run.patience else "**no**"}


def _change_text(change: pd.Series) -> str:
    """``before → after (× ratio; median × ratio)``; on held-out states there is one value at either end."""
    ratios = _ratio(change["before_mean"], change["after_mean"])
    if change["states"] == "updates":
        ratios += f"; median {_ratio(change['before_median'], change['after_median'])}"
    return f"{change['before_mean']:.2g} → {change['after_mean']:.2g} ({ratios})"


def _ratio(before: float, after: float) -> str:
    return f"× {after / before:.2g}" if before else f"{before:.2g} → {after:.2g}"


def weighted_losses(curriculum: Mapping[str, Any]) -> list[str]:
    """Losses that have a weight in a stage of blend 1; a weight that the stored curriculum lacks has its default."""
    general = {**LossWeights().model_dump(), **curriculum.get("learning", {}).get("weights", {})}
    stages = [stage for stage in curriculum.get("stages", ()) if stage.get("blend") == 1.0] or [{}]
    return [name for name in LOSSES if any({**general, **stage.get("weights", {})}.get(name) for stage in stages)]


def loss_changes(rows: Sequence[Mapping[str, float]], curriculum: Mapping[str, Any]) -> list[Row]:
    """Rows of the table ``losses``: of each weighted loss both ends of the training at blend 1.

    By the updates where there are enough for both ends; on held-out states from the last stage at blend 1.
    """
    at_one = [row for row in rows if row.get(BLEND) == 1.0]
    ends = [row for row in at_one if any(after in row for _, after in HELD_OUT.values())]
    changes = []
    for name in weighted_losses(curriculum):
        values = [row[f"loss/{name}"] for row in at_one if f"loss/{name}" in row]
        if len(values) >= 2 * UPDATES:
            changes.append(_change(name, "updates", values[:UPDATES], values[-UPDATES:]))
        before, after = HELD_OUT[name]
        if ends and after in ends[-1]:
            changes.append(_change(name, "held out", [ends[-1][before]], [ends[-1][after]]))
    return changes


def _change(name: str, states: str, before: list[float], after: list[float]) -> Row:
    means, medians = ([how(before), how(after)] for how in (np.mean, np.median))
    return dict(zip(COLUMNS["losses"][1:], [name, states, *means, *medians], strict=True))


def success_counts(rows: Sequence[Mapping[str, float]], curriculum: Mapping[str, Any]) -> dict[str, int]:
    """Success against the thresholds of the stored curriculum; empty where either was not recorded."""
    stages = curriculum.get("stages", ())
    measured = [(int(row[STAGE]), row[SUCCESS]) for row in rows if STAGE in row and SUCCESS in row]
    if not measured or not all(stage < len(stages) for stage, _ in measured):
        return {}
    fails = [not success >= stages[stage].get("success_threshold", 0.0) for stage, success in measured]  # NaN fails
    runs = itertools.groupby(zip((stage for stage, _ in measured), fails, strict=True))
    longest = max((len(list(members)) for (_, failing), members in runs if failing), default=0)
    patience = curriculum.get("monitor", {}).get("patience", Monitor().patience)
    return {"measurements": len(measured), "below": sum(fails), "longest": longest, "patience": int(patience)}
