"""Pure state transitions of the monitor: count failures, keep the best state, back off after a roll-back.

``backoffs`` rises with every roll-back and falls with every passed measurement; it shifts the blend towards the
analytic barrier and raises the penalties until both are back at the stage's values. ``rollbacks`` only rises and lowers
the learning rates: a rate that has diverged once would diverge again.
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
    """The best state of a stage so far, with its measurement."""

    state: SafetyState
    passed: int
    """1 if it met the stage's thresholds."""
    backoffs: int
    """Back-offs in force during the measurement."""
    success: float
    violation: float
    """99.9 % quantile [m/s]; infinite in place of NaN."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Larger is better: passed, fewer back-offs, higher success, smaller violation."""
        return (self.passed, -self.backoffs, self.success, -self.violation)


@struct.dataclass
class MonitorState:
    """The monitor's memory."""

    best: BestState
    stage: int = -1
    """Index of the stage that ``best`` belongs to; -1 before the first."""
    failures: int = 0
    """Consecutive failed measurements."""
    backoffs: int = 0
    """Back-offs of blend and penalties in force."""
    rollbacks: int = 0
    """Roll-backs in the run so far."""


def initial_monitor(state: SafetyState) -> MonitorState:
    """The monitor before the first stage."""
    return MonitorState(best=BestState(state=state, passed=0, backoffs=0, success=0.0, violation=math.inf))


def scales_of(monitor: MonitorState, config: Monitor) -> Scales:
    """Factors in force: powers of ``blend_backoff``, ``penalty_boost`` (limited) and ``rate_backoff``."""
    return Scales(
        blend=config.blend_backoff**monitor.backoffs,
        penalty=min(config.penalty_boost**monitor.backoffs, config.penalty_limit),
        learning_rate=config.rate_backoff**monitor.rollbacks,
    )


def unmet_thresholds(report: Mapping[str, float], stage: Stage) -> str:
    """The stage's thresholds that ``report`` does not meet, in words; empty if it passes. NaN does not pass."""
    unmet = []
    if not report["success_rate"] >= stage.success_threshold:
        unmet.append(f"success {report['success_rate']:.3f} below {stage.success_threshold:g}")
    if not report["violation_p999"] <= stage.violation_threshold:
        unmet.append(f"violation {report['violation_p999']:.3f} above {stage.violation_threshold:g}")
    return ", ".join(unmet)


def candidate(state: SafetyState, report: Mapping[str, float], stage: Stage, backoffs: int) -> BestState:
    """A measured state as a candidate for the best one."""
    violation = report["violation_p999"]
    return BestState(
        state=state,
        passed=int(not unmet_thresholds(report, stage)),
        backoffs=backoffs,
        success=report["success_rate"],
        violation=violation if math.isfinite(violation) else math.inf,
    )


def after_stage_start(monitor: MonitorState, first: BestState, stage: int) -> MonitorState:
    """A new stage: the state it starts from becomes the best one, whatever came before."""
    return monitor.replace(best=first, stage=stage, failures=0)


def after_measurement(monitor: MonitorState, found: BestState) -> MonitorState:
    """Count failures, undo one back-off on a pass, keep the better state.

    Of two equal states the later one wins if it passes, since it has trained longer; otherwise it may be the one that
    went wrong. A failing state that is the best so far resets the failures: there is nothing better to roll back to.
    """
    better = found.rank > monitor.best.rank or (found.passed and found.rank == monitor.best.rank)
    best = found if better else monitor.best
    if found.passed:
        return monitor.replace(best=best, failures=0, backoffs=max(monitor.backoffs - 1, 0))
    return monitor.replace(best=best, failures=0) if better else after_failure(monitor)


def after_failure(monitor: MonitorState) -> MonitorState:
    """One more consecutive failure."""
    return monitor.replace(failures=monitor.failures + 1)


def after_rollback(monitor: MonitorState) -> MonitorState:
    """One more back-off, and no failures."""
    return monitor.replace(failures=0, backoffs=monitor.backoffs + 1, rollbacks=monitor.rollbacks + 1)
