"""Whether two runs agree: every metric at every step, and every figure of the table of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from drone_cbf.tracking.queries.cells import cell_figures
from drone_cbf.tracking.tags import environment_of

LEFT_OUT = ("system/",)  # Metrics that measure the machine, not the run
UNLESS_LOGGED = {"adaptive/*": 1.0, "*/unavoidable_rate": 0.0}
"""Pattern of a metric's name -> its value where none is logged: these factors are 1 until the first roll-back, and runs
recorded before that rate was counted flew by labelled points, for which it is 0."""
Series = dict[int, list[float]]  # Step -> its logged values in order


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
    steps: int  # Steps at which at least one run logged it
    disagreeing: int  # Steps at which the runs disagree, or only one of them logged it; ``first`` is the first of them
    first: int | None
    largest_difference: float  # Over the steps of both; NaN if one value is NaN and the other is not
    recorded: float  # Last value of the recorded run; NaN if it has none
    repeated: float


def compare_runs(
    recorded: Run, repeated: Run, tolerance: Tolerance, progress: Callable[[int], None]
) -> list[Comparison]:
    """Every figure of either run, by name; ``progress`` is told the number of figures done.

    A figure that one run logged and the other holds only in its table of cells is compared by its value alone.
    """
    runs, found = (recorded, repeated), []
    tables = [cell_figures(run.info.run_id) for run in runs]
    for number, name in enumerate(figure_names(*runs)):
        before, after = _comparable(name, [_series(run, name) for run in runs], tables)
        found.append(compare_series(name, before, after, tolerance))
        progress(number)
    return found


def figure_names(*runs: Run) -> list[str]:
    """The metrics and the figures of cells that any of the runs has, without those that measure the machine."""
    names = {name for run in runs for name in (*run.data.metrics, *cell_figures(run.info.run_id))}
    return sorted(name for name in names if not name.startswith(LEFT_OUT))


def _comparable(name: str, logged: Sequence[Series], tables: Sequence[Mapping[str, float]]) -> list[Series]:
    """What was logged of both runs, completed by what need not be logged."""
    for pattern, value in UNLESS_LOGGED.items():
        if fnmatch(name, pattern):
            steps = {step for series in logged for step in series} or {0}
            silent = [table.get(name, value) for table in tables]
            return [{step: [each] for step in steps} | series for each, series in zip(silent, logged, strict=True)]
    if all(logged):
        return list(logged)
    values = [_last(series) if series else table.get(name) for series, table in zip(logged, tables, strict=True)]
    if all(series or value is None for series, value in zip(logged, values, strict=True)):
        return list(logged)  # logged by one run alone: they disagree at each of its steps
    return [{} if value is None else {0: [value]} for value in values]


def compare_series(metric: str, recorded: Series, repeated: Series, tolerance: Tolerance) -> Comparison:
    """Compares one metric at every step."""
    steps = sorted(recorded.keys() | repeated.keys())
    logged = {step: (recorded.get(step, []), repeated.get(step, [])) for step in steps}
    wrong = [
        step
        for step, (left, right) in logged.items()
        if len(left) != len(right) or not all(map(tolerance.accepts, left, right))
    ]
    differences = [
        0.0 if left == right or (math.isnan(left) and math.isnan(right)) else abs(left - right)
        for both in logged.values()
        for left, right in zip(*both, strict=False)
    ]
    largest = math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)
    first = wrong[0] if wrong else None
    return Comparison(metric, len(steps), len(wrong), first, largest, _last(recorded), _last(repeated))


def environment_differences(recorded: Mapping[str, str], repeated: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Versions, commit and device in which the tags of two runs differ: name -> both values, or ``unknown``."""
    before, after = environment_of(recorded), environment_of(repeated)
    both = {name: (before.get(name, "unknown"), after.get(name, "unknown")) for name in sorted({*before, *after})}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _series(run: Run, metric: str) -> Series:
    series: Series = {}
    known = metric in run.data.metrics
    for point in MlflowClient().get_metric_history(run.info.run_id, metric) if known else ():
        series.setdefault(point.step, []).append(point.value)
    return series


def _last(series: Series) -> float:
    return series[max(series)][-1] if series else math.nan
