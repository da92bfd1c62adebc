"""A sweep in words and tables: its plan for the terminal, its trials for the run's description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drone_cbf.reporting.tables import markdown_table, terminal_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.studies.trials import Trial, best_trial
from projects.inputs.sweep_files import Choices, Searched
from projects.sweeping.plan import SweepPlan
from projects.sweeping.progress import as_words, shown

LONGEST_REASON = 200
"""Characters of a reason in a table; the trial holds the whole."""


def plan_text(plan: SweepPlan) -> str:
    """What is searched and trained, for the terminal."""
    given, settings = plan.parameters, plan.settings
    rows = [{"setting": name, **range_row(searched)} for name, searched in settings.space.items()]
    shared = [task.title for task in plan.tasks.shared()]
    middle = {name: _first(searched) for name, searched in settings.space.items()}
    own = [task.entry.name for task in plan.tasks.of_trial(middle)]
    lines = [
        f"sweep {settings.name}: {given.trials} trials, {given.workers} at a time, sampler {given.sampler}, "
        f"pruner {given.pruner}; {settings.objective.direction} {settings.objective.metric}",
        f"  once, for all trials: {', '.join(shared) or 'nothing'}",
        f"  every trial: {', '.join(own)}",
        *(f"  {line}" for line in terminal_table(rows).splitlines()),
    ]
    if settings.given:
        lines.append(f"  in every trial: {as_words({name: str(value) for name, value in settings.given.items()})}")
    return "\n".join(lines)


def range_row(searched: Searched) -> dict[str, object]:
    """A range or the choices, for a table."""
    if isinstance(searched, Choices):
        return {"type": searched.type, "from": ", ".join(map(str, searched.choices)), "to": None, "scale": None}
    scale = "logarithmic" if searched.log else "linear"
    return {"type": searched.type, "from": f"{searched.low:g}", "to": f"{searched.high:g}", "scale": scale}


def _first(searched: Searched) -> object:
    return searched.choices[0] if isinstance(searched, Choices) else searched.low


def sweep_page(plan: SweepPlan, trials: Sequence[Trial]) -> str:
    """Markdown: the best trial, and every trial with its values, its outcome and links to its runs."""
    metric = plan.settings.objective.metric
    counts = Counter(trial.state for trial in trials)
    told = ", ".join(f"{number} {state}" for state, number in counts.items())
    best = best_trial(trials, plan.settings.objective.direction)
    first = (
        f"**Best: `{metric}` {best.value:.4g}, trial {best.number + 1}**: {as_words(best.params)}\n\n" if best else ""
    )
    rows = [trial_row(plan, trial) for trial in trials]
    return f"### Trials: {told} of {plan.parameters.trials}\n\n{first}{markdown_table(rows)}"


def trial_row(plan: SweepPlan, trial: Trial) -> dict[str, object]:
    """One trial; numbers begin at 1 where people read them."""
    links = {
        name: linked(str(trial.attributes[name]), trial.experiment_id) if name in trial.attributes else None
        for name in ("training", "evaluation")
    }
    return {**plain_row(plan, trial), **links, "why": reason(trial)}


def plain_row(plan: SweepPlan, trial: Trial) -> dict[str, object]:
    """Number, state, outcome and values of a trial, without links."""
    values = {name: shown(trial.params[name]) if name in trial.params else None for name in plan.settings.space}
    outcome = {"state": trial.state, plan.settings.objective.metric: trial.value, "last report": trial.reported}
    seconds = round(trial.seconds, 1) if trial.seconds is not None and trial.state != "waiting" else None
    return {"trial": trial.number + 1, **outcome, **values, "start to end [s]": seconds}


def reason(trial: Trial) -> str | None:
    """Why a trial is not done."""
    if trial.state == "pruned":
        return f"stopped at step {trial.attributes.get('stopped_at')}"
    return str(trial.attributes["reason"])[:LONGEST_REASON] if "reason" in trial.attributes else None
