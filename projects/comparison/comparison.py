"""Compares trained policies: which of them differ in the seed alone, and what their evaluations say together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from drone_cbf.errors import ConfigError
from drone_cbf.reporting.figures.trial_figures import comparison_figure, loss_over_blend
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.reporting.trials import (
    CONFIDENCE,
    Loss,
    Trial,
    blend_rows,
    csv_text,
    grouped,
    interval,
    present_measures,
    summary_numbers,
    summary_rows,
    trial_rows,
)
from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.links import compare_page, run_page
from drone_cbf.tracking.queries.records import Record, history, settings, stored_curriculum
from drone_cbf.tracking.queries.selection import Evaluated
from drone_cbf.tracking.runs.lineage import ancestry
from drone_cbf.tracking.runs.stage_run import flatten, ui_address
from drone_cbf.training.curriculum.schema import Curriculum
from projects.cli.stage_parameters import EvaluateParameters
from projects.inputs.digests import NOT_COUNTED
from projects.running.stage_runner import Stage

FOLDER = "comparison"
LOSSES = ("loss/cbf_hdot", "loss/cbf_value")
"""The loss that is shown against the blend: the first that any of the runs has."""
BY_CURRICULUM = "as the curriculum says"
"""Stands for a setting of the system that a run has from its curriculum, by which it is called already."""
NOT_COMPARED = ("stage", "seed", "parent_run", "curriculum", *NOT_COUNTED)
"""Settings that do not split a group."""


@dataclass(frozen=True)
class Comparison:
    """Trials ready to be drawn, the pairs of runs behind them, and what a reader must know about them."""

    trials: list[Trial]
    pairs: list[Evaluated]
    notes: list[str]


def compare(stage: Stage, pairs: Sequence[Evaluated], strict: bool) -> str:
    """Leaves tables, figures and metrics of a comparison on the stage's run; returns Markdown for its description.

    Raises:
        ConfigError: with ``strict``, two runs are the same experiment with the same seed.
    """
    comparison = gather(pairs, strict)
    trials = comparison.trials
    page = comparison_page(comparison)
    files = {
        "summary.md": page,
        "summary.csv": csv_text(summary_numbers(trials)),
        "runs.csv": csv_text(trial_rows(trials)),
    }
    blends = blend_rows(trials)
    if blends:
        files["loss_over_blend.csv"] = csv_text(blends)
    for name, text in files.items():
        stage.run.log_text(text, f"{FOLDER}/{name}")
    stage.draw("comparison.png", lambda: comparison_figure(trials))
    if blends:
        stage.draw("loss_over_blend.png", lambda: loss_over_blend(trials))
    stage.run.log_metrics(mean_metrics(trials))
    print(
        f"compare: MLflow's comparison of the evaluations: {ui_address(links(comparison)['evaluations'])}", flush=True
    )
    return page


def gather(pairs: Sequence[Evaluated], strict: bool) -> Comparison:
    """Pairs as trials, grouped by all settings but the seed; of repeated experiments the newest, unless ``strict``."""
    trained = [pair.trained for pair in pairs]
    names = group_names(trained, {record.run_id: settings_told(record) for record in trained})
    kept: dict[tuple[str, int], Evaluated] = {}
    notes = []
    for pair in pairs:
        key = (names[pair.trained.run_id], pair.trained.seed)
        if key in kept:
            what = f"{key[0]}, seed {key[1]}"
            older, newer = sorted((kept[key], pair), key=lambda one: one.evaluation.started)
            if strict:
                raise ConfigError(
                    f"evaluations {older.evaluation.run_id} and {newer.evaluation.run_id} are both of {what}; an "
                    "interval over seeds would count one experiment twice: leave one of the two out"
                )
            notes.append(f"Of two evaluations of {what} the newer one counts, not {older.evaluation.run_id}.")
            pair = newer
        kept[key] = pair
    chosen = list(kept.values())
    notes += evaluation_notes(chosen)
    loss = _loss_name([pair.trained for pair in chosen])
    trials = [_trial(pair, names[pair.trained.run_id], loss) for pair in chosen]
    return Comparison(trials, chosen, notes)


def _trial(pair: Evaluated, group: str, loss: str | None) -> Trial:
    prefix = "eval/"
    worst = {name.removeprefix(prefix): value for name, value in pair.evaluation.metrics.items()
             if name.startswith(prefix) and name.count("/") == 1}  # fmt: skip
    return Trial(
        group=group,
        seed=pair.trained.seed,
        run_id=pair.trained.run_id,
        evaluation_id=pair.evaluation.run_id,
        figures=worst,
        loss=_loss(pair.trained, loss) if loss else None,
    )


def _loss_name(records: Sequence[Record]) -> str | None:
    return next((name for name in LOSSES if any(name in record.metrics for record in records)), None)


def _loss(record: Record, name: str) -> Loss | None:
    blend = "curriculum/blend"
    rows = [row for row in history(record.run_id, (name, blend)) if name in row and blend in row]
    if not rows:
        return None
    columns = (np.array([row[key] for row in rows]) for key in ("step", blend, name))
    return Loss(name, *columns)


def group_names(records: Sequence[Record], told: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Run ID -> name of its group: the curriculum (else the stage), and every setting in which the runs differ.

    ``told``: the settings of each run, by its ID.
    """
    titles = {record.run_id: record.curriculum or f"no curriculum ({record.stage})" for record in records}
    alike: dict[str, list[Mapping[str, str]]] = {}
    for record in records:
        alike.setdefault(record.stage, []).append(told[record.run_id])
    names = {}
    for record in records:
        others = alike[record.stage]
        keys = sorted({key for other in others for key in other})
        differing = [key for key in keys if len({other.get(key) for other in others} - {BY_CURRICULUM}) > 1]
        mine = [f"{key}={text}" for key in differing if (text := told[record.run_id].get(key, "none")) != BY_CURRICULUM]
        names[record.run_id] = ", ".join([titles[record.run_id], *mine])
    return _told_apart(records, names)


def _told_apart(records: Sequence[Record], names: Mapping[str, str]) -> dict[str, str]:
    """Curricula of one name but different content get a digest of the content behind their name."""
    contents: dict[str, set[str]] = {}
    digests = {}
    for record in records:
        asked = asked_of(stored_curriculum(record.run_id)) if record.curriculum else {}
        digests[record.run_id] = settings_digest(asked)[:6]  # shown in tables and figures
        contents.setdefault(names[record.run_id], set()).add(digests[record.run_id])
    return {
        run_id: f"{name} [{digests[run_id]}]" if len(contents[name]) > 1 else name for run_id, name in names.items()
    }


def asked_of(curriculum: Mapping[str, Any]) -> dict[str, Any]:
    """A stored curriculum by whatever words it is described, and without what was not thought of when it was stored."""
    plain = {**curriculum, "description": ""}
    try:
        return Curriculum.model_validate(plain).model_dump(mode="json", exclude_defaults=True)
    except ValidationError:  # of a version that knew it otherwise
        return plain


def settings_told(record: Record) -> dict[str, str]:
    """The settings of a run and of those that it builds on, but for seeds and run IDs."""
    found: dict[str, str] = {}
    for run in ancestry(record.run_id):
        config = settings(run.info.run_id)
        own = run.info.run_id == record.run_id
        part = flatten(
            {"parameters": config.get("parameters", {}), **({"system": config.get("system")} if own else {})}
        )
        if own:
            part |= {key: BY_CURRICULUM for key, text in _set_by_curriculum(record).items() if part.get(key) == text}
        prefix = "" if own else f"{config.get('stage')}."
        found |= {f"{prefix}{key}": text for key, text in part.items() if key not in NOT_COMPARED}
    return found


def _set_by_curriculum(record: Record) -> dict[str, str]:
    """What the curriculum of a run sets of the system, as params show it."""
    asked = stored_curriculum(record.run_id).get("system", {}) if record.curriculum else {}
    return {name: str(value) for name, value in asked.items()}


def evaluation_notes(pairs: Sequence[Evaluated]) -> list[str]:
    """In what the evaluations differ: figures from different flights are not the same measurement."""
    return differing_flights([flatten(settings(pair.evaluation.run_id).get("parameters", {})) for pair in pairs])


def differing_flights(told: Sequence[Mapping[str, str]]) -> list[str]:
    """The same of the evaluations' parameters; what an older one does not tell of is as it is when nothing is asked."""
    plain, notes = flatten(EvaluateParameters(parent_run="any").model_dump()), []
    for key in sorted({key for one in told for key in one} - {"parent_run", "resume_run"}):
        values = list(dict.fromkeys(one.get(key, plain.get(key, "none")) for one in told))
        if len(values) > 1:
            notes.append(
                f"The evaluations differ in {key}: {'; '.join(values)}. Their figures are of different flights."
            )
    return notes


def links(comparison: Comparison) -> dict[str, str]:
    """MLflow's own pages on exactly these runs: ``policies`` and ``evaluations``."""
    trained = {pair.trained.run_id: pair.trained.experiment_id for pair in comparison.pairs}
    measured = {pair.evaluation.run_id: pair.evaluation.experiment_id for pair in comparison.pairs}
    return {
        "policies": compare_page(list(trained), list(trained.values())),
        "evaluations": compare_page(list(measured), list(measured.values())),
    }


def comparison_page(comparison: Comparison) -> str:
    """Markdown: the table of groups, how to read it, the links, and the runs."""
    trials, pages = comparison.trials, links(comparison)
    reading = (
        f"Worst cell of each evaluation, filter on. Mean ± half width of the {CONFIDENCE:.0%} Student-t interval over "
        "the n seeds named; with n = 1 there is no interval."
    ).replace("%", " %")
    notes = "".join(f"\n- {note}" for note in comparison.notes)
    rows = [
        {
            "trained as": trial.group,
            "seed": trial.seed,
            "policy": f"[{trial.run_id}]({run_page(trial.run_id, pair.trained.experiment_id)})",
            "evaluation": f"[{trial.evaluation_id}]({run_page(trial.evaluation_id, pair.evaluation.experiment_id)})",
        }
        for trial, pair in zip(trials, comparison.pairs, strict=True)
    ]
    return (
        f"### Comparison\n\n{markdown_table(summary_rows(trials))}\n\n{reading}{notes}\n\n"
        f"In MLflow: [compare the evaluations]({pages['evaluations']}), "
        f"[compare the policies]({pages['policies']}).\n\n"
        f"### Compared runs\n\n{markdown_table(rows)}"
    )


def mean_metrics(trials: Sequence[Trial]) -> dict[str, float]:
    """``comparison/<group>/<measure>``: the means, so that suites can be searched and compared in their turn."""
    found = {}
    for group, members in grouped(trials).items():
        name = re.sub(r"[^\w. -]+", "_", group)[:150]  # what MLflow allows in names
        for measure in present_measures(trials):
            found[f"comparison/{name}/{measure.key}"] = interval(trial.figures[measure.key] for trial in members).mean
    return found
