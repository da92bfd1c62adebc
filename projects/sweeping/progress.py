"""What a person at the terminal sees of a sweep: how every trial begins, gets on and ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from drone_cbf.tracking.studies.trials import State, Trial, best_trial
from projects.sweeping.plan import SweepPlan

ENDED: tuple[State, ...] = ("done", "pruned", "failed")


class Progress:
    """Prints what has changed since it looked last."""

    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan
        self._seen: dict[int, tuple[State, float | None]] = {}
        self._began, self._ended_before = time.monotonic(), 0

    def begin(self, trials: Sequence[Trial]) -> None:
        """What a resumed sweep has done before is no news."""
        self._seen = {trial.number: (trial.state, trial.reported) for trial in trials if trial.state in ENDED}
        self._ended_before = len(self._seen)

    def show(self, trials: Sequence[Trial]) -> bool:
        """Prints the news; whether a trial has ended since."""
        has_ended = False
        for trial in trials:
            now, before = (trial.state, trial.reported), self._seen.get(trial.number)
            if now == before or not self._plan.settings.space.keys() <= trial.params.keys():  # not all chosen yet
                continue
            self._seen[trial.number] = now
            if text := self._news(trial, before, trials):
                print(f"sweep: trial {trial.number + 1} of {self._plan.parameters.trials} {text}", flush=True)
            has_ended |= trial.state in ENDED
        return has_ended

    def _news(self, trial: Trial, before: tuple[State, float | None] | None, trials: Sequence[Trial]) -> str:
        if trial.state == "done":
            return f"done: {self._plan.settings.objective.metric} {trial.value:.4g}{self._best(trials)}"
        if trial.state == "pruned":
            return f"stopped early at step {trial.attributes.get('stopped_at')}{self._left(trials)}"
        if trial.state == "failed":
            return f"FAILED: {trial.attributes.get('reason', 'see its output')}{self._left(trials)}"
        if before is None or before[0] != trial.state:
            begins = "waits" if trial.state == "waiting" else "starts"
            return f"{'goes on' if trial.attributes.get('begun', 1) > 1 else begins}: {as_words(trial.params)}"
        return f"reports {self._plan.settings.reported} {trial.reported:.4g}" if trial.reported is not None else ""

    def _best(self, trials: Sequence[Trial]) -> str:
        best = best_trial(trials, self._plan.settings.objective.direction)
        assert best is not None and best.value is not None
        return f", the best so far {best.value:.4g} of trial {best.number + 1}{self._left(trials)}"

    def _left(self, trials: Sequence[Trial]) -> str:
        """About how long it takes yet."""
        ended = sum(trial.state in ENDED for trial in trials)
        left, own = self._plan.parameters.trials - ended, ended - self._ended_before
        minutes = (time.monotonic() - self._began) / max(own, 1) * left / 60.0
        return f" (about {minutes:.0f} min to go)" if left and own else ""


def as_words(params: Mapping[str, str]) -> str:
    """Values for people: ``safety.learning_rate 0.00123, filter.penalty 210``."""
    return ", ".join(f"{name} {shown(text)}" for name, text in params.items())


def shown(text: str) -> str:
    """A number with four digits, anything else as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
