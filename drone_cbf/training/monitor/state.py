"""What follows from regular measurements during training: failures are counted, the best state is kept, a run that has
gone wrong returns to it, more cautiously.

Two counts say how cautious training is. ``backoffs`` rises with every roll-back and falls with every measurement that
passes: the blend leans towards the analytic barrier and the penalties grow, until both are at the stage's own again.
``rollbacks`` only rises: a learning rate that has led astray once would do so again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from flax import struct

from drone_cbf.training.curriculum.adaptation import Scales
from drone_cbf.training.curriculum.mechanisms import Monitor
from drone_cbf.training.curriculum.schema import Stage
from drone_cbf.training.update.joint_update import SafetyState


@struct.dataclass
class BestState:
    """The best state of a stage so far, and how it was measured under the stage's conditions."""

    state: SafetyState
    passed: int
    """1: it met the stage's thresholds."""
    backoffs: int
    """How far blend and penalties were backed off in that measurement."""
    success: float
    violation: float
    """99.9 % quantile [m/s]; infinite where it was not a number."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Larger is better: meets the thresholds, nearer to the stage's conditions, more success, less violation."""
        return (self.passed, -self.backoffs, self.success, -self.violation)


@struct.dataclass
class MonitorState:
    """All that the monitor remembers."""

    best: BestState
    stage: int = -1
    """Index of the stage that ``best`` belongs to; -1 before the first."""
    failures: int = 0
    """Failed measurements in a row."""
    backoffs: int = 0
    """Steps by which blend and penalties are backed off now."""
    rollbacks: int = 0
    """Roll-backs of the run so far."""


def initial_monitor(state: SafetyState) -> MonitorState:
    """The monitor before the first stage."""
    return MonitorState(best=BestState(state=state, passed=0, backoffs=0, success=0.0, violation=math.inf))


def scales_of(watch: MonitorState, config: Monitor) -> Scales:
    """Factors in force: powers of ``blend_backoff`` and ``penalty_boost`` (limited), and of ``rate_backoff``."""
    return Scales(
        blend=config.blend_backoff**watch.backoffs,
        penalty=min(config.penalty_boost**watch.backoffs, config.penalty_limit),
        learning_rate=config.rate_backoff**watch.rollbacks,
    )


def missed_thresholds(report: Mapping[str, float], stage: Stage) -> str:
    """Which of the stage's thresholds a measurement misses, in words; empty where it meets them. NaN misses."""
    missed = []
    if not report["success_rate"] >= stage.success_threshold:
        missed.append(f"success {report['success_rate']:.3f} below {stage.success_threshold:g}")
    if not report["violation_p999"] <= stage.violation_threshold:
        missed.append(f"violation {report['violation_p999']:.3f} above {stage.violation_threshold:g}")
    return ", ".join(missed)


def candidate(state: SafetyState, report: Mapping[str, float], stage: Stage, backoffs: int) -> BestState:
    """A state as a candidate for the best one."""
    violation = report["violation_p999"]
    return BestState(
        state=state,
        passed=int(not missed_thresholds(report, stage)),
        backoffs=backoffs,
        success=report["success_rate"],
        violation=violation if math.isfinite(violation) else math.inf,
    )


def after_stage_start(watch: MonitorState, first: BestState, stage: int) -> MonitorState:
    """A stage begins: its best is the state that it is entered with, whatever that was worth before."""
    return watch.replace(best=first, stage=stage, failures=0)


def after_measurement(watch: MonitorState, found: BestState) -> MonitorState:
    """After a measurement: failures are counted, a pass takes back one back-off, the better state is kept.

    Of two that are equal the later has learned more if it passes; if not, it may be what has gone wrong. A state that
    fails and is the best so far is learning what is asked for: there is nothing to return to, and failures are counted
    anew.
    """
    better = found.rank > watch.best.rank or (found.passed and found.rank == watch.best.rank)
    best = found if better else watch.best
    if found.passed:
        return watch.replace(best=best, failures=0, backoffs=max(watch.backoffs - 1, 0))
    return watch.replace(best=best, failures=0) if better else after_failure(watch)


def after_failure(watch: MonitorState) -> MonitorState:
    """After a measurement that failed and was no better than the best."""
    return watch.replace(failures=watch.failures + 1)


def after_rollback(watch: MonitorState) -> MonitorState:
    """After a roll-back: one more back-off, and patience anew."""
    return watch.replace(failures=0, backoffs=watch.backoffs + 1, rollbacks=watch.rollbacks + 1)
