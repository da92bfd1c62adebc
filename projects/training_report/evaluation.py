"""The part of a report that is about evaluated policies: comparison, matrix, flights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from drone_cbf.reporting.figures.matrices import success_matrix
from drone_cbf.reporting.figures.speeds import rates_by_number, rates_by_speed
from drone_cbf.reporting.figures.trial_figures import comparison_figure, loss_over_blend
from drone_cbf.reporting.pages.document import Heading, Picture, Section, Table, Text, picture_of
from drone_cbf.reporting.trials import CONFIDENCE, grouped, interval, measured, summary_rows
from drone_cbf.tracking.queries.records import artifact, artifact_names, stored_curriculum, table
from projects.comparison.comparison import Comparison
from projects.inputs.curriculum_files import ABLATIONS, nearest_base

FIGURES = {
    "_filter_on_off.png": "{}: the same policy in the same scene, with and without the filter.",
    "_from_above.png": "{}: recorded flights from above.",
    "_in_space.png": "{}: the same flights in space.",
    "_over_time.png": "{}: one of them over time.",
}
"""Ending of a figure that an evaluation leaves -> its caption."""
FEW = 2  # up to so many policies are shown with all their flights; of more, one of each group with the filter's effect
WORST = {
    "success_rate": "success rate",
    "collisions": "collisions, all cells",
    "rollouts": "flights, all cells",
    "collision_rate_total_ub99": "collision rate over all flights, 99 % bound",
    "max_violation": "largest violation [m/s]",
    "violation_p999": "violation, 99.9 % quantile [m/s]",
    "relax_rate": "relaxed steps",
    "intervention_rate": "steps on which the filter acts",
    "fallback_rate": "steps without a solution",
    "unavoidable_rate": "steps with something on the way already committed to",
    "final_distance_mean": "final distance, mean [m]",
    "final_distance_p95": "final distance, 95 % quantile [m]",
    "mean_speed": "mean speed [m/s]",
}
"""Figures of the worst cell and how they are called, in the order of a reader's interest."""


def comparison_section(comparison: Comparison) -> Section:
    """Groups side by side over their seeds."""
    trials = comparison.trials
    reading = (
        f"Worst cell of each evaluation, filter on. Mean ± half width of the {CONFIDENCE:.0%} Student-t interval over "
        "n seeds; with n = 1 there is no interval. Groups differ in the settings that their names give; runs of a "
        "group differ only in the seed."
    ).replace("%", " %")
    blocks: list[Any] = [Table(summary_rows(trials), reading), *map(Text, comparison.notes)]
    dots = "Every seed a dot, every group its mean with the interval."
    blocks.append(_drawn(lambda: comparison_figure(trials), dots))
    if len(comparison.losses):
        caption = "The barrier's loss over the training and against the share of the neural barrier in the filter."
        blocks.append(_drawn(lambda: loss_over_blend(comparison.losses), caption))
    return Section("Comparison", blocks)


def ablations_section(comparison: Comparison) -> list[Section]:
    """What every ablation changes of the nearest curriculum below it that was evaluated; nothing where none was."""
    curricula = {pair.trained.run_id: pair.trained.curriculum for pair in comparison.pairs}
    groups: dict[str, list[pd.DataFrame]] = {}
    for members in grouped(comparison.trials).values():
        groups.setdefault(curricula[members["run_id"].iloc[0]], []).append(members)
    rows: dict[str, list[dict[str, object]]] = {}
    for name, found in groups.items():
        base = nearest_base(name, groups) if name.startswith(ABLATIONS) else None
        if base is not None:
            unchanged = max(groups[base], key=len)
            means = {measure.label: interval(unchanged[measure.key]).text() for measure in measured(unchanged)}
            first = {"curriculum": base, "changed": "nothing", "n": len(unchanged), **means}
            changes = [{"curriculum": name, **_change(members, unchanged)} for members in found]
            rows.setdefault(base, [first]).extend(changes)
    reading = (
        "Each unchanged curriculum: mean ± interval over n seeds. Below it, per change: the difference of the means "
        "over n seeds; the comparison above holds the intervals."
    )
    return [Section("Ablations", [Table(list(chain.from_iterable(rows.values())), reading)])] if rows else []


def _change(trials: pd.DataFrame, unchanged: pd.DataFrame) -> dict[str, object]:
    description = stored_curriculum(trials["run_id"].iloc[0]).get("description")
    row: dict[str, object] = {"changed": description or trials["group"].iloc[0], "n": len(trials)}
    for measure in measured(trials):
        mean, before = (interval(some[measure.key]).mean for some in (trials, unchanged))
        row[measure.label] = f"{mean - before:+.3g}"
    return row


def evaluation_section(comparison: Comparison) -> Section:
    """Of every policy the matrix of cells, and its worst figures with the filter on and off."""
    blocks: list[Any] = []
    for trial, pair in zip(comparison.trials.itertuples(), comparison.pairs, strict=True):
        blocks.append(Heading(_name(trial)))
        cells = table(trial.evaluation_run_id, "tables/cells.json")
        if shown := [cell for cell in cells if cell.get("filtered")] or cells:
            caption = f"Run {trial.evaluation_run_id}: success and collisions in every cell, filter on."
            by = {"speed": rates_by_speed, "drones": rates_by_number}
            draw = next((by[axis] for axis in by if all(axis in cell for cell in shown)), success_matrix)
            blocks.append(_drawn(lambda shown=shown, draw=draw: draw(shown), caption))
        blocks.append(Table(_worst(pair.evaluation.metrics)))
    return Section("Evaluation", blocks)


def _worst(metrics: Mapping[str, float]) -> list[dict[str, object]]:
    def shown(name: str) -> float | str | None:
        value = metrics.get(name)
        return f"{value:,.0f}" if value is not None and name.endswith(("/collisions", "/rollouts")) else value

    return [
        {"worst cell": label, "filter on": shown(f"eval/{name}"), "filter off": shown(f"eval_unfiltered/{name}")}
        for name, label in WORST.items()
        if f"eval/{name}" in metrics
    ]


def flights_section(comparison: Comparison) -> Section:
    """Recorded flights as the evaluations drew them."""
    trials = comparison.trials
    few = len(trials) <= FEW
    chosen = trials if few else pd.concat([members[:1] for members in grouped(trials).values()])
    blocks: list[Any] = []
    for trial in chosen.itertuples():
        if pictures := _pictures(trial.evaluation_run_id, FIGURES if few else list(FIGURES)[:1]):
            blocks += [Heading(_name(trial)), *pictures]
    return Section("Trajectories", blocks or [Text("The evaluations left no pictures of flights.")])


def _pictures(run_id: str, endings: Sequence[str]) -> list[Picture]:
    names, found = artifact_names(run_id, "figures"), []
    for ending in endings:
        for path in (name for name in names if name.endswith(ending)):
            if content := artifact(run_id, path):
                scene = path.removeprefix("figures/").removesuffix(ending).replace("_", " ")
                found.append(Picture(content, FIGURES[ending].format(scene).capitalize(), share=0.5))
    if slices := artifact(run_id, "figures/barrier.png"):
        found.append(Picture(slices, "Analytic beside neural barrier at one velocity, and their difference."))
    return found


def _name(trial: Any) -> str:
    return f"{trial.group}, seed {trial.seed}" if trial.seed >= 0 else trial.group


def _drawn(draw: Callable[[], Any], caption: str) -> Picture | Text:
    """The picture, or why it could not be drawn: a figure that fails must not cost the rest of the report."""
    try:
        return picture_of(draw(), caption)
    except ValueError as error:
        return Text(f"A figure was left out: {error}")
