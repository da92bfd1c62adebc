"""Trained policies side by side: groups of trials that differ in the seed alone, and what they say together."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95
"""Of the interval of a mean over seeds."""


@dataclass(frozen=True)
class Measure:
    """A figure that policies are compared by."""

    key: str
    """Name of the metric without ``eval/``."""
    title: str
    unit: str
    required: float | None
    """DESIGN 5: the value that must be met; None: no requirement."""
    larger_is_better: bool = False

    @property
    def label(self) -> str:
        """Title with unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


MEASURES = (
    Measure("success_rate", "success rate", "", 0.995, larger_is_better=True),
    Measure("collision_rate", "collision rate", "", 0.0),
    Measure("relax_rate", "relaxed steps", "", 0.001),
    Measure("max_violation", "largest violation", "m/s", 1.0),
    Measure("violation_p999", "violation, 99.9 % quantile", "m/s", None),
    Measure("final_distance_p95", "final distance, 95 % quantile", "m", None),
)
"""Figures of the worst cell of an evaluation."""


@dataclass(frozen=True)
class Loss:
    """One loss over a training, with the curriculum's blend at the same updates; (N,) each."""

    name: str
    step: np.ndarray
    blend: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Trial:
    """One trained policy with its evaluation."""

    group: str
    """What it was trained as; trials of one group differ in the seed alone."""
    seed: int
    run_id: str
    evaluation_id: str
    figures: Mapping[str, float]
    """Figures of the worst cell, by ``Measure.key``, and others."""
    loss: Loss | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Interval:
    """A mean over ``count`` values; ``half_width`` of its Student-t interval, NaN for a single value."""

    mean: float
    half_width: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero; NaN does not."""
        return abs(self.mean) > self.half_width

    def text(self, form: str = ".4g") -> str:
        """``mean ± half width``, or the mean alone where one value says nothing about the spread."""
        if math.isnan(self.mean):
            return "\N{EN DASH}"
        spread = "" if math.isnan(self.half_width) else f" ± {self.half_width:{'.2g' if form == '.4g' else form}}"
        return f"{self.mean:{form}}{spread}"


def interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and two-sided Student-t interval (Gosset 1908); a NaN among the values makes both NaN.

    With two values the interval is 12.7 standard errors wide at 95 %: so little two seeds say.
    """
    data = np.asarray(list(values), float)
    if not len(data):
        return Interval(math.nan, math.nan, 0)
    if len(data) == 1:
        return Interval(float(data[0]), math.nan, 1)
    spread = float(data.std(ddof=1)) if np.ptp(data) else 0.0  # of equal values it is not zero, by rounding of the mean
    error = spread / math.sqrt(len(data))
    return Interval(float(data.mean()), float(student.ppf(0.5 + confidence / 2.0, len(data) - 1)) * error, len(data))


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], confidence: float = CONFIDENCE
) -> Interval | None:
    """Mean over the seeds that both sides have of the difference at the same seed, with its Student-t interval.

    Trials of one seed began with the same networks and fly the same scenes: what they share cancels out. None where
    fewer than two seeds are common: nothing is known of the spread.
    """
    common = sorted(ours.keys() & theirs.keys())
    return interval([ours[seed] - theirs[seed] for seed in common], confidence) if len(common) > 1 else None


def grouped(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials by group, groups in order of first appearance, trials by seed."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.group, []).append(trial)
    return {name: sorted(members, key=lambda trial: trial.seed) for name, members in groups.items()}


def present_measures(trials: Sequence[Trial]) -> list[Measure]:
    """Of ``MEASURES`` those that every trial has."""
    return [measure for measure in MEASURES if all(measure.key in trial.figures for trial in trials)]


def summary_rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """One row per group: its seeds, n, and of every measure ``mean ± half width``."""
    rows = []
    for name, members in grouped(trials).items():
        row: dict[str, object] = {"trained as": name, "n": len(members)}
        row["seeds"] = ", ".join(str(trial.seed) for trial in members)
        for measure in present_measures(trials):
            row[measure.label] = interval(trial.figures[measure.key] for trial in members).text()
        rows.append(row)
    return rows


def summary_numbers(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """The same as numbers, for a file: ``<measure>_mean``, ``<measure>_half_width`` and ``n``."""
    rows = []
    for name, members in grouped(trials).items():
        row: dict[str, object] = {"group": name, "n": len(members), "confidence": CONFIDENCE}
        for measure in present_measures(trials):
            found = interval(trial.figures[measure.key] for trial in members)
            row |= {f"{measure.key}_mean": found.mean, f"{measure.key}_half_width": found.half_width}
        rows.append(row)
    return rows


def trial_rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """One row per trial with every figure, for a file."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.figures))
    return [
        {
            "group": trial.group,
            "seed": trial.seed,
            "run_id": trial.run_id,
            "evaluation_run_id": trial.evaluation_id,
            **{name: trial.figures.get(name, math.nan) for name in names},
        }
        for trial in trials
    ]


def blend_levels(loss: Loss) -> dict[float, float]:
    """Mean loss at every blend that the curriculum visited, rounded to a tenth; losses that are not finite left out."""
    level = np.round(loss.blend, 1)
    levels: dict[float, float] = {}
    for value in np.unique(level):
        finite = loss.value[(level == value) & np.isfinite(loss.value)]
        if len(finite):
            levels[float(value)] = float(finite.mean())
    return levels


def blend_rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """One row per group and blend: mean loss over the updates at that blend, then over seeds."""
    rows: list[dict[str, object]] = []
    for name, members in grouped(trials).items():
        levels = [blend_levels(trial.loss) for trial in members if trial.loss is not None]
        for blend in sorted({blend for level in levels for blend in level}):
            found = interval(level[blend] for level in levels if blend in level)
            spread = {"mean": found.mean, "half_width": found.half_width, "n": found.count}
            rows.append({"group": name, "blend": blend, **spread})
    return rows


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as comma-separated values, columns in order of first appearance, floats at full precision."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
