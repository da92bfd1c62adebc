"""Statistics over training seeds: Student-t intervals, paired differences, and tables of policies by group.

``trials`` is a DataFrame with a row per evaluated policy: ``group`` (policies of one group differ only in the seed),
``seed``, ``run_id``, ``evaluation_run_id``, and the figures of the worst cell by metric name without ``eval/``.
``losses`` is a DataFrame with a row per update: ``group``, ``seed``, ``run_id``, ``step``, ``blend``, ``name`` and
``value``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from drone_cbf.reporting.tables import ABSENT, shortened

CONFIDENCE = 0.95
"""Of the interval of a mean over seeds."""


class Measure(NamedTuple):
    """A figure that policies are compared by; ``key``: name of the metric without ``eval/``."""

    key: str
    label: str
    required: float | None
    """DESIGN 5: the value that must be met; None: no requirement."""


MEASURES = (
    Measure("success_rate", "success rate", 0.995),
    Measure("collision_rate", "collision rate", 0.0),
    Measure("relax_rate", "relaxed steps", 0.001),
    Measure("max_violation", "largest violation [m/s]", 1.0),
    Measure("violation_p999", "violation, 99.9 % quantile [m/s]", None),
    Measure("final_distance_p95", "final distance, 95 % quantile [m]", None),
)
"""Figures of the worst cell of an evaluation."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``count`` values; ``half_width`` of its Student-t interval, NaN for a single value."""

    mean: float
    half_width: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero; false for NaN."""
        return abs(self.mean) > self.half_width

    def text(self, form: str = ".4g") -> str:
        """``mean ± half width``, or the mean alone where a single value gives no interval."""
        if math.isnan(self.mean):
            return ABSENT
        spread = "" if math.isnan(self.half_width) else f" ± {self.half_width:{'.2g' if form == '.4g' else form}}"
        return f"{self.mean:{form}}{spread}"


def interval(values: Iterable[float]) -> Interval:
    """Mean and two-sided Student-t interval (Gosset 1908); a NaN among the values makes both NaN.

    With two values the interval is 12.7 standard errors wide at 95 %.
    """
    data = np.asarray(list(values), float)
    if len(data) < 2:
        return Interval(float(data[0]) if len(data) else math.nan, math.nan, len(data))
    error = float(stats.sem(data)) if np.ptp(data) else 0.0  # rounding of the mean gives equal values a tiny spread
    width = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, len(data) - 1)) * error
    return Interval(float(data.mean()), width, len(data))


def paired_difference(ours: pd.Series, theirs: pd.Series) -> Interval | None:
    """Interval of ``ours - theirs`` at the same seed; both are indexed by seed. None for fewer than two common seeds.

    Runs of one seed start from the same networks and fly the same scenes, so that the common part cancels.
    """
    common = ours.index.intersection(theirs.index)
    return interval(ours[common] - theirs[common]) if len(common) > 1 else None


def measured(trials: pd.DataFrame) -> list[Measure]:
    """Of ``MEASURES`` those that any trial has."""
    return [measure for measure in MEASURES if measure.key in trials]


def grouped(trials: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Trials by group, groups in order of first appearance, trials by seed."""
    return {str(name): members.sort_values("seed") for name, members in trials.groupby("group", sort=False)}


def summary_rows(trials: pd.DataFrame) -> list[dict[str, object]]:
    """One row per group: its seeds, n, and of every measure ``mean ± half width``."""
    return [
        {"trained as": name, "n": len(members), "seeds": ", ".join(map(str, members["seed"]))}
        | {measure.label: interval(members[measure.key]).text() for measure in measured(trials)}
        for name, members in grouped(trials).items()
    ]


def headline_rows(trials: pd.DataFrame) -> list[dict[str, object]]:
    """One row per group for a terminal: success and violation of the worst cell, all collisions, seeds."""
    rows = []
    for name, members in grouped(trials).items():
        counts = members.reindex(columns=["collisions", "rollouts"]).sum(skipna=False)
        row = {"policy": shortened(name, 60), "success, worst cell": interval(members["success_rate"]).text()}
        row |= {"collisions": "{:,.0f} in {:,.0f}".format(*counts) if counts.notna().all() else None}
        row |= {"largest violation [m/s]": interval(members["max_violation"]).text()}
        rows.append(row | {"seeds": ", ".join(map(str, members["seed"]))})
    return rows


def summary_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """``group``, ``n``, ``confidence``, and of every measure ``<measure>_mean`` and ``<measure>_half_width``."""
    by_group = trials.groupby("group", sort=False)
    numbers = by_group[[measure.key for measure in measured(trials)]].agg([mean, half_width])
    numbers.columns = ["_".join(names) for names in numbers.columns]
    return by_group.size().to_frame("n").assign(confidence=CONFIDENCE).join(numbers).reset_index()


def loss_by_blend(losses: pd.DataFrame) -> pd.DataFrame:
    """``group``, ``blend``, and ``mean``, ``half_width`` and ``n`` over the seeds of each run's mean at that blend.

    Blends are rounded to a tenth; losses that are not finite are left out.
    """
    finite = losses[np.isfinite(losses["value"])]
    by_run = finite.groupby(["group", finite["blend"].round(1), "run_id"])["value"].mean()
    return by_run.groupby(["group", "blend"]).agg(mean=mean, half_width=half_width, n="size").reset_index()


def mean(values: pd.Series) -> float:
    """NaN where any value is NaN, unlike pandas' own."""
    return float(values.mean(skipna=False))


def half_width(values: pd.Series) -> float:
    """Of the mean's Student-t interval."""
    return interval(values).half_width
