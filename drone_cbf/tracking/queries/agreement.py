"""Compares two runs: every metric at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.tags import COMMIT_TAG, DEVICE_TAG, DIRTY_TAG, VERSION_PREFIX

EXCLUDED = ("system/",)
"""Prefixes of metrics that measure the machine."""
Series = dict[int, list[float]]
"""Step -> its logged values in order."""


@dataclass(frozen=True)
class Tolerance:
    """Two values agree if they differ by at most ``absolute + relative * max(|left|, |right|)``."""

    relative: float = 0.0
    absolute: float = 0.0

    def accepts(self, left: float, right: float) -> bool:
        """NaN agrees with NaN, and infinity with itself."""
        if left == right or (math.isnan(left) and math.isnan(right)):
            return True
        if not (math.isfinite(left) and math.isfinite(right)):
            return False
        return abs(left - right) <= self.absolute + self.relative * max(abs(left), abs(right))


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs."""

    metric: str
    steps: int
    """Steps at which at least one run logged it."""
    disagreeing: int
    """Steps at which the runs disagree, or only one of them logged it."""
    first: int | None
    """The first of these."""
    largest_difference: float
    """Over the steps of both; NaN if one value is NaN and the other is not."""
    recorded: float
    """Last value of the recorded run; NaN if it has none."""
    repeated: float
    """Last value of the repeated run; NaN if it has none."""


def compare_runs(
    recorded: Run, repeated: Run, tolerance: Tolerance, progress: Callable[[int], None]
) -> list[Comparison]:
    """Compares every metric of either run, by name; calls ``progress`` with the number of metrics compared so far."""
    found = []
    for number, name in enumerate(metric_names(recorded, repeated)):
        found.append(compare_series(name, _series(recorded, name), _series(repeated, name), tolerance))
        progress(number)
    return found


def metric_names(*runs: Run) -> list[str]:
    """Names of the metrics of any of the runs, without :data:`EXCLUDED`."""
    return sorted(name for name in {name for run in runs for name in run.data.metrics} if not name.startswith(EXCLUDED))


def compare_series(metric: str, recorded: Series, repeated: Series, tolerance: Tolerance) -> Comparison:
    """Compares one metric at every step."""
    steps = sorted(recorded.keys() | repeated.keys())
    wrong = [step for step in steps if not _agree(recorded.get(step, []), repeated.get(step, []), tolerance)]
    differences = [
        0.0 if left == right or (math.isnan(left) and math.isnan(right)) else abs(left - right)
        for step in recorded.keys() & repeated.keys()
        for left, right in zip(recorded[step], repeated[step], strict=False)
    ]
    undefined = any(map(math.isnan, differences))
    return Comparison(
        metric=metric,
        steps=len(steps),
        disagreeing=len(wrong),
        first=wrong[0] if wrong else None,
        largest_difference=math.nan if undefined else max(differences, default=0.0),
        recorded=_last(recorded),
        repeated=_last(repeated),
    )


def environment_differences(recorded: Mapping[str, str], repeated: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Differences in versions, commit and device: name -> both values."""
    names = {name for tags in (recorded, repeated) for name in tags if name.startswith(VERSION_PREFIX)}
    names |= {DEVICE_TAG, COMMIT_TAG, DIRTY_TAG}
    both = {name: (recorded.get(name, "unknown"), repeated.get(name, "unknown")) for name in sorted(names)}
    return {_display_name(name): pair for name, pair in both.items() if pair[0] != pair[1]}


def _display_name(tag: str) -> str:
    names = {COMMIT_TAG: "commit", DIRTY_TAG: "uncommitted changes"}
    return names.get(tag, tag.removeprefix("drone_cbf."))


def _agree(left: list[float], right: list[float], tolerance: Tolerance) -> bool:
    return len(left) == len(right) and all(map(tolerance.accepts, left, right))


def _series(run: Run, metric: str) -> Series:
    series: Series = {}
    if metric in run.data.metrics:
        for point in MlflowClient().get_metric_history(run.info.run_id, metric):
            series.setdefault(point.step, []).append(point.value)
    return series


def _last(series: Series) -> float:
    return series[max(series)][-1] if series else math.nan
