"""What a sweep leaves behind: figures, tables, a page, and the best trial as a version of the model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from drone_cbf.reporting.figures import sweep_figures as figures
from drone_cbf.reporting.pages import render
from drone_cbf.tracking.runs.nesting import StageFailed, run_child
from drone_cbf.tracking.studies.storage import SweepStudy
from drone_cbf.tracking.studies.trials import Trial, best_trial
from projects.cli.arguments import mlflow_run
from projects.inputs.sweep_files import Choices, Searched
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.sweeping.document import Pictures, sweep_document
from projects.sweeping.plan import SweepPlan
from projects.sweeping.progress import as_words
from projects.sweeping.searching import importances
from projects.sweeping.tables import plain_row, sweep_page
from projects.workflows.plans import own_children

PAGE = "sweep/sweep.html"
"""Artifact: everything on one page."""


def conclude(stage: Stage, plan: SweepPlan, trials: Sequence[Trial]) -> Outcome:
    """Draws, tabulates and writes the page; registers the best trial where that is asked for."""
    objective, run = plan.settings.objective, stage.run
    best = best_trial(trials, objective.direction)
    assert best is not None and best.value is not None
    run.log_metrics({"sweep/best": best.value, "sweep/trials": float(len(trials))})
    run.tag(best_trial=best.run_id, best_training=best.attributes["training"], best_run=best.attributes["evaluation"])
    rows = [plain_row(plan, trial) | {"run": trial.run_id} for trial in trials]
    run.log_table({name: [row[name] for row in rows] for name in rows[0]}, "tables/trials.json")
    shares = importances(SweepStudy(run.run_id, run.experiment_id, objective.direction).open())
    verdict = register(stage, best) if plan.parameters.register else ""
    drawn = pictures(plan, trials, shares)
    for name, figure in drawn.items():
        stage.draw(f"{name}.png", figure)
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    run.log_text(render("report.html", document=sweep_document(plan, trials, best, drawn, verdict, written)), PAGE)
    shown = f"Best of {len(trials)} trials: {objective.metric} {best.value:.4g}, trial {best.number + 1}: "
    note = f"\n\n{verdict}" if verdict else ""
    registering = (mlflow_run("register", {"run": best.attributes["evaluation"]}),)
    return Outcome(
        f"{sweep_page(plan, trials)}\n\nEverything on one page: artifact `{PAGE}`.{note}",
        shown=shown + as_words(best.params) + note,
        following=() if plan.parameters.register else registering,
    )


def register(stage: Stage, best: Trial) -> str:
    """The best trial as a version of the model, promoted if it passes the gate; what came of it, in a sentence."""
    evaluation = best.attributes["evaluation"]
    done = {child.stage for child in own_children(stage.run.run_id) if child.status == "FINISHED"}
    if "register" not in done:
        print(f"sweep: the best trial, {best.number + 1}, is registered", flush=True)
        run_child(stage.run, ROOT, "register", {"run": evaluation})
    if "gate" in done:
        return "The best trial is registered and has passed the gate."
    try:
        run_child(stage.run, ROOT, "gate", {"run": evaluation, "promote": "true"})
    except StageFailed as error:  # a verdict, not a fault of the sweep
        return f"The best trial is registered as @challenger; the gate does not promote it: {error.reason}"
    return "The best trial is registered; it has passed the gate and is @champion."


def pictures(plan: SweepPlan, trials: Sequence[Trial], shares: dict[str, float]) -> Pictures:
    """Name of a figure -> what draws it."""
    objective, space = plan.settings.objective, plan.settings.space
    settings = [searched_setting(name, searched) for name, searched in space.items()]
    tried = [one_tried(trial, space) for trial in trials if space.keys() <= trial.params.keys()]
    upwards = objective.direction == "maximize"
    return {
        "course": partial(figures.course_figure, tried, objective.metric, upwards),
        "importance": partial(figures.importance_figure, shares),
        "parallel_coordinates": partial(figures.parallel_figure, tried, settings, objective.metric, upwards),
        "slices": partial(figures.slices_figure, tried, settings, objective.metric),
    }


def searched_setting(name: str, searched: Searched) -> figures.SearchedSetting:
    if isinstance(searched, Choices):
        names = tuple(map(str, searched.choices))
        return figures.SearchedSetting(name, 0.0, len(names) - 1.0, choices=names)
    return figures.SearchedSetting(name, searched.low, searched.high, searched.log)


def one_tried(trial: Trial, space: Any) -> figures.Tried:
    def number(name: str, searched: Searched) -> float:
        if isinstance(searched, Choices):
            return float([str(choice) for choice in searched.choices].index(trial.params[name]))
        return float(trial.params[name])

    values = {name: number(name, searched) for name, searched in space.items()}
    return figures.Tried(trial.number, values, trial.value, trial.state == "pruned")
