"""The page of a sweep: what was found, what matters, every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from drone_cbf.reporting.pages.document import Code, Document, Fact, Link, Section, Table, Text, picture_of
from drone_cbf.tracking.runs.stage_run import run_link
from drone_cbf.tracking.studies.trials import Trial
from projects.cli.arguments import mlflow_run
from projects.sweeping.plan import SweepPlan
from projects.sweeping.progress import shown
from projects.sweeping.tables import plain_row, range_row, reason

Pictures = Mapping[str, Callable[[], Any]]
CAPTIONS = {
    "course": ("Course", "The objective of every trial in order, and the best until then."),
    "importance": (
        "What matters",
        "How much of the objective's variation over the whole search space each setting explains alone (functional "
        "ANOVA on a random forest fitted to the trials). With few trials this is a hint, no measurement.",
    ),
    "parallel_coordinates": (
        "Parallel coordinates",
        "One line for each trial, coloured by the objective; the best is bold, trials that were stopped early dashed.",
    ),
    "slices": ("Each setting", "The objective over every setting alone; later trials are darker."),
}
"""Figure -> title of its section, and how to read it."""


def sweep_document(
    plan: SweepPlan, trials: Sequence[Trial], best: Trial, pictures: Pictures, verdict: str, written: str
) -> Document:
    """``verdict``: what came of registering the best trial; empty where it was not asked for."""
    settings = plan.settings
    sections = [best_section(plan, best, verdict)]
    for name, figure in pictures.items():
        title, caption = CAPTIONS[name]
        try:
            sections.append(Section(title, [picture_of(figure(), caption)]))
        except ValueError as error:  # too few trials, say
            sections.append(Section(title, [Text(f"Not drawn: {error}")]))
    sections += [trials_section(plan, trials), searched_section(plan)]
    direction = f"{settings.objective.direction} {settings.objective.metric}"
    return Document(f"Sweep: {settings.name}", f"{direction}; written {written}", facts(plan, trials, best), sections)


def facts(plan: SweepPlan, trials: Sequence[Trial], best: Trial) -> list[Fact]:
    counts = Counter(trial.state for trial in trials)
    notes = ", ".join(f"{number} {state}" for state, number in counts.items())
    return [
        Fact(f"Best {plan.settings.objective.metric}", f"{best.value:.4g}", f"trial {best.number + 1}"),
        *(Fact(name, shown(text), "of the best trial") for name, text in list(best.params.items())[:4]),
        Fact("Trials", str(len(trials)), notes),
    ]


def best_section(plan: SweepPlan, best: Trial, verdict: str) -> Section:
    """The best trial: its values, its runs, and how to use it."""
    training, evaluation = (best.attributes[part] for part in ("training", "evaluation"))
    runs = [
        {"what": what, "run": Link(run_id, run_link(run_id, best.experiment_id))}
        for what, run_id in (("trial", best.run_id), ("training", training), ("evaluation", evaluation))
    ]
    values = [{"setting": name, "value": shown(text)} for name, text in best.params.items()]
    lines = [mlflow_run("reproduce", {"run": training}), mlflow_run("register", {"run": evaluation})]
    told = [Text(verdict)] if verdict else []
    return Section("Best trial", [Table(values), Table(runs), *told, Code("\n".join(lines))])


def trials_section(plan: SweepPlan, trials: Sequence[Trial]) -> Section:
    rows = []
    for trial in trials:
        link = Link(trial.run_id[:8], run_link(trial.run_id, trial.experiment_id))
        rows.append({**plain_row(plan, trial), "run": link, "why": reason(trial)})
    return Section("Trials", [Table(rows, f"Values of {plan.settings.objective.metric} are of the evaluate stage.")])


def searched_section(plan: SweepPlan) -> Section:
    """Ranges, and all that makes the sweep, to be used as a file."""
    rows = [{"setting": name, **range_row(searched)} for name, searched in plan.settings.space.items()]
    content = yaml.safe_dump(plan.settings.model_dump(mode="json"), sort_keys=False)
    given = yaml.safe_dump(plan.parameters.model_dump(mode="json"), sort_keys=False)
    return Section("What was searched", [Table(rows), Code(content, "The sweep's file"), Code(given, "Parameters")])
