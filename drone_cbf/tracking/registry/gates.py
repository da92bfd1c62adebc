"""The gate: thresholds that an evaluation must meet, checked one by one by MLflow's own validation."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import mlflow
from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult, validation
from pydantic import AfterValidator, Field, model_validator

from drone_cbf.config import Section, SensorKind
from drone_cbf.tracking.queries.cells import is_logged
from drone_cbf.tracking.tags import STAGE_TAG

GATE_TAG = "drone_cbf.gate"
PASSED, FAILED = "passed", "failed"
PASSING_RUNS = f"tags.`{GATE_TAG}` = '{PASSED}'"  # Filter of ``search_runs`` that finds every run that has passed


class Gate(Section):
    """What one metric must meet. A missing or NaN metric fails."""

    metric: str = Field(min_length=1, max_length=250, pattern=r"^[\w./: -]+$")
    """A figure of the evaluate run by metric name: of the worst cell ``eval/<name>``, of a single one
    ``eval/<scene>/noise_<level>/<goals>/<name>``, before the name ``drones_<n>/`` of an evaluation by number of
    drones."""
    at_least: float | None = None
    """Smallest value that passes."""
    at_most: float | None = None
    """Largest value that passes."""
    worse_by: float | None = Field(None, ge=0.0)
    """How much worse than the champion still passes; left out: the champion does not matter."""

    @model_validator(mode="after")
    def _has_one_direction(self) -> Gate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.metric} needs one of at_least (greater is better) and at_most (less is better)")
        return self

    @property
    def greater_is_better(self) -> bool:
        return self.at_least is not None

    @property
    def limit(self) -> float:
        return self.at_least if self.at_least is not None else self.at_most  # type: ignore[return-value]  # validated


def _distinct(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    names = sorted(gate.metric for gate in gates)
    if twice := [name for name, following in pairwise(names) if name == following]:
        raise ValueError(f"{twice[0]} is given twice; keep one gate for each metric")
    return gates


Gates = Annotated[tuple[Gate, ...], Field(min_length=1), AfterValidator(_distinct)]
"""At least one; every metric once."""


class GateSettings(Section):
    """All gates."""

    gates: Gates
    by_sensor: dict[SensorKind, Gates] = {}
    """Those in place of ``gates`` for evaluations of this ``sensor.kind``."""
    swarms: Gates | None = None
    """Those in place of all others for evaluations in which several drones fly at once."""

    def for_evaluation(self, sensor: str, *, swarm: bool = False) -> GateSettings:
        """The gates that hold for evaluations with a sensor of this kind, of single drones or of swarms."""
        if swarm and self.swarms is not None:
            return GateSettings(gates=self.swarms)
        return GateSettings(gates=next((gates for name, gates in self.by_sensor.items() if name == sensor), self.gates))

    def digest(self) -> str:
        """SHA-256 (hexadecimal, its beginning) of the thresholds."""
        return hashlib.sha256(self.model_dump_json(exclude={"by_sensor", "swarms"}).encode()).hexdigest()[:16]

    @property
    def not_searchable(self) -> tuple[str, ...]:
        """Figures of cells that are no metric; the gate reads them from the evaluation's table of cells."""
        return tuple(gate.metric for gate in self.gates if not is_logged(gate.metric))

    def query(self) -> str:
        """Filter of ``search_runs`` for evaluations that meet the absolute thresholds but :attr:`not_searchable`."""
        found = [gate for gate in self.gates if gate.metric not in self.not_searchable]
        rows = [f"metrics.`{gate.metric}` {'>=' if gate.greater_is_better else '<='} {gate.limit!r}" for gate in found]
        return " and ".join([f"tags.`{STAGE_TAG}` = 'evaluate'", "attributes.status = 'FINISHED'", *rows])


@dataclass(frozen=True)
class Check:
    """One threshold against one metric."""

    metric: str
    kind: str  # ``absolute``, or ``champion`` for the comparison with it
    value: float | None  # Of the judged evaluation; None where it has no such metric
    threshold: float | None  # None where the champion has no such metric
    greater_is_better: bool
    passed: bool
    reason: str  # empty where passed


def judge(settings: GateSettings, candidate: Mapping[str, float], champion: Mapping[str, float] | None) -> list[Check]:
    """Every threshold of ``settings`` against the metrics of an evaluation.

    ``champion`` holds the metrics of the champion under the same conditions; None: only absolute thresholds hold.
    """
    logging.getLogger(validation.__name__).setLevel(logging.WARNING)  # a line for every check is no news
    checks = [_check(gate, "absolute", gate.limit, candidate) for gate in settings.gates]
    for gate in settings.gates:
        if champion is not None and gate.worse_by is not None:
            known = champion.get(gate.metric, math.nan)
            limit = known - gate.worse_by if gate.greater_is_better else known + gate.worse_by
            checks.append(_check(gate, "champion", limit, candidate))
    return checks


def _check(gate: Gate, kind: str, limit: float, candidate: Mapping[str, float]) -> Check:
    reason, threshold = _complaint(gate, kind, limit, candidate), None if math.isnan(limit) else limit
    value = candidate.get(gate.metric)
    return Check(gate.metric, kind, value, threshold, gate.greater_is_better, not reason, reason)


def _complaint(gate: Gate, kind: str, limit: float, candidate: Mapping[str, float]) -> str:
    """Why MLflow refuses the metric; empty where it does not."""
    threshold = MetricThreshold(threshold=limit, greater_is_better=gate.greater_is_better)
    result = EvaluationResult(metrics=dict(candidate), artifacts={})
    try:
        mlflow.validate_evaluation_results(validation_thresholds={gate.metric: threshold}, candidate_result=result)
    except validation.ModelValidationFailedException:
        if gate.metric not in candidate:
            return f"{gate.metric} is missing"
        if math.isnan(limit):
            return f"{gate.metric} is missing on the champion's evaluation"
        wanted = f"{'at least' if gate.greater_is_better else 'at most'} {limit:g}"
        source = "" if kind == "absolute" else f" (champion, and worse by {gate.worse_by:g})"
        return f"{gate.metric} = {candidate[gate.metric]:g}, wanted {wanted}{source}"
    return ""
