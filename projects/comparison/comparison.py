"""Entry point ``compare``: groups policies that differ only in the seed, and writes tables, figures and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from drone_cbf.errors import ConfigError
from drone_cbf.reporting.figures.trial_figures import comparison_figure, loss_over_blend
from drone_cbf.reporting.tables import markdown_table, terminal_table
from drone_cbf.reporting.trials import CONFIDENCE, headline_rows, loss_by_blend, summary_numbers, summary_rows
from drone_cbf.tracking.datasets import settings_digest
from drone_cbf.tracking.links import compare_page, run_page
from drone_cbf.tracking.queries.records import Record, history, settings, stored_curriculum
from drone_cbf.tracking.queries.selection import Evaluated, evaluated, select_runs
from drone_cbf.tracking.runs.lineage import ancestry
from drone_cbf.tracking.runs.stage_run import flatten, ui_address
from drone_cbf.training.curriculum.schema import Curriculum
from projects.cli.stage_parameters import EvaluateParameters
from projects.inputs.digests import NOT_COUNTED
from projects.running.stage_runner import Outcome, Stage

LOSSES = ("loss/cbf_hdot", "loss/cbf_value")
"""The loss that is shown against the blend: the first that any of the runs has."""
BLEND = "curriculum/blend"
FROM_CURRICULUM = "from the curriculum"
"""Stands for a system setting that a run has from its curriculum, whose name the group carries already."""
NOT_COMPARED = ("stage", "seed", "parent_run", "curriculum", *NOT_COUNTED)
"""Settings that do not split a group."""


@dataclass(frozen=True)
class Comparison:
    """Evaluated policies, the pairs of runs behind them, and notes for the reader."""

    trials: pd.DataFrame
    """One row per pair, as ``drone_cbf.reporting.trials`` describes it."""
    losses: pd.DataFrame
    pairs: list[Evaluated]
    """In the order of ``trials``."""
    notes: list[str]


def work(stage: Stage) -> Outcome:
    asked = stage.parameters
    records = select_runs(asked.runs, asked.experiment, asked.filter)
    return Outcome(compare(stage, evaluated(records, strict=bool(asked.runs)), strict=bool(asked.runs)))


def compare(stage: Stage, pairs: Sequence[Evaluated], strict: bool) -> str:
    """Logs tables, figures and metrics of a comparison to the stage's run; returns Markdown for its description.

    Raises:
        ConfigError: with ``strict``, two evaluations are of the same settings and seed.
    """
    comparison = gather(pairs, strict)
    trials, losses = comparison.trials, comparison.losses
    page, numbers = comparison_page(comparison), summary_numbers(trials)
    tables = {"summary": numbers, "runs": trials}
    stage.run.log_text(page, "comparison/summary.md")
    stage.draw("comparison.png", lambda: comparison_figure(trials))
    if len(losses):
        tables["loss_over_blend"] = loss_by_blend(losses)
        stage.draw("loss_over_blend.png", lambda: loss_over_blend(losses))
    for name, table in tables.items():
        stage.run.log_text(table.to_csv(index=False, na_rep="nan"), f"comparison/{name}.csv")
    stage.run.log_metrics(mean_metrics(numbers))
    address = ui_address(links(comparison.pairs)["evaluations"])
    print(f"\n{terminal_table(headline_rows(trials))}\n")
    print(f"compare: the evaluations side by side in MLflow: {address}", flush=True)
    return page


def gather(pairs: Sequence[Evaluated], strict: bool) -> Comparison:
    """Pairs grouped by all settings but the seed; of repeated evaluations the newest, unless ``strict``."""
    trained = [pair.trained for pair in pairs]
    names = group_names(trained, {record.run_id: compared_settings(record) for record in trained})
    groups = {pair.evaluation.run_id: names[pair.trained.run_id] + flown_as(pair) for pair in pairs}
    chosen: dict[tuple[str, int], Evaluated] = {}
    notes = []
    for pair in sorted(pairs, key=lambda one: one.evaluation.started):
        key = (groups[pair.evaluation.run_id], pair.trained.seed)
        if older := chosen.get(key):
            which = "{}, seed {}".format(*key)
            if strict:
                raise ConfigError(
                    f"evaluations {older.evaluation.run_id} and {pair.evaluation.run_id} are both of {which}; an "
                    "interval over seeds would count one policy twice: leave one of the two out"
                )
            notes.append(f"Of two evaluations of {which} the newer one counts, not {older.evaluation.run_id}.")
        chosen[key] = pair
    kept = [pair for pair in pairs if pair in chosen.values()]
    notes += differing_flights([flatten(settings(pair.evaluation.run_id).get("parameters", {})) for pair in kept])
    keys = [
        (groups[one.evaluation.run_id], one.trained.seed, one.trained.run_id, one.evaluation.run_id) for one in kept
    ]
    named = pd.DataFrame(keys, columns=["group", "seed", "run_id", "evaluation_run_id"])
    worst = pd.DataFrame([pair.evaluation.metrics for pair in kept]).filter(regex="^eval/[^/]*$")
    trials = named.join(worst.rename(columns=lambda name: name.removeprefix("eval/")))
    return Comparison(trials, _losses(kept, names), kept, notes)


def flown_as(pair: Evaluated) -> str:
    """What a group's name says of the drone where it is not the one that the policy was trained in; else nothing."""
    trained, flown = (_drone_of(record.run_id) for record in (pair.trained, pair.evaluation))
    return "" if flown == trained else f", flown as {' '.join(flown)}"


def _drone_of(run_id: str) -> tuple[str, ...]:
    """The model of the drone, and its airframe where it has one; runs from when there was one model are of that."""
    physics = settings(run_id).get("system", {}).get("physics", {})
    model = physics.get("model", "point_mass")
    return (model, physics.get("airframe", "crazyflie")) if model == "quadrotor" else (model,)


def _losses(pairs: Sequence[Evaluated], groups: Mapping[str, str]) -> pd.DataFrame:
    """Of every run that has it, the loss that is shown, with the blend at the same updates."""
    name = next((name for name in LOSSES if any(name in pair.trained.metrics for pair in pairs)), None)
    rows = [
        (groups[run.run_id], run.seed, run.run_id, row["step"], row[BLEND], name, row[name])
        for run in (pair.trained for pair in pairs)
        for row in (history(run.run_id, (name, BLEND)) if name else ())
        if name in row and BLEND in row
    ]
    return pd.DataFrame(rows, columns=["group", "seed", "run_id", "step", "blend", "name", "value"])


def group_names(records: Sequence[Record], settings_of: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Run ID -> name of its group: the curriculum (else the stage), and every setting in which the runs differ.

    ``settings_of``: the compared settings by run ID. Runs are compared within their stage. Curricula of one name but
    different content get a digest of the content behind their name.
    """
    names: dict[str, tuple[str, str]] = {}
    for stage in dict.fromkeys(record.stage for record in records):
        runs = {record.run_id: record for record in records if record.stage == stage}
        table = pd.DataFrame([settings_of[run_id] for run_id in runs], index=list(runs), dtype=object)
        table = table.fillna("none").where(lambda cells: cells != FROM_CURRICULUM)
        table = table[[name for name in sorted(table) if table[name].nunique() > 1]]
        for run_id, row in table.iterrows():
            title = runs[run_id].curriculum or f"no curriculum ({stage})"
            name = ", ".join([title, *(f"{setting}={text}" for setting, text in row.dropna().items())])
            content = curriculum_content(stored_curriculum(run_id)) if runs[run_id].curriculum else {}
            names[run_id] = name, settings_digest(content)[:6]
    contents = Counter(name for name, _ in set(names.values()))
    return {run_id: f"{name} [{digest}]" if contents[name] > 1 else name for run_id, (name, digest) in names.items()}


def curriculum_content(curriculum: Mapping[str, Any]) -> dict[str, Any]:
    """A stored curriculum without its description, and without settings that have their default value."""
    plain = {**curriculum, "description": ""}
    try:
        return Curriculum.model_validate(plain).model_dump(mode="json", exclude_defaults=True)
    except ValidationError:  # stored by a version with another schema
        return plain


def compared_settings(record: Record) -> dict[str, str]:
    """The settings of a run and, prefixed by their stage, of its ancestors; without seeds and run IDs."""
    found: dict[str, str] = {}
    for run in ancestry(record.run_id):
        config, own = settings(run.info.run_id), run.info.run_id == record.run_id
        part, prefix = flatten({"parameters": config.get("parameters", {})}), f"{config.get('stage')}."
        if own:
            part, prefix = part | flatten({"system": config.get("system")}), ""
            curriculum = stored_curriculum(record.run_id).get("system", {}) if record.curriculum else {}
            part |= {name: FROM_CURRICULUM for name, value in curriculum.items() if part.get(name) == str(value)}
        found |= {f"{prefix}{name}": text for name, text in part.items() if name not in NOT_COMPARED}
    return found


def differing_flights(parameters: Sequence[Mapping[str, str]]) -> list[str]:
    """In which parameters evaluations differ; a parameter that an older one did not have counts as its default."""
    defaults, notes = flatten(EvaluateParameters(parent_run="any").model_dump()), []
    for name in sorted({name for one in parameters for name in one} - {"parent_run", "resume_run"}):
        values = list(dict.fromkeys(one.get(name, defaults.get(name, "none")) for one in parameters))
        if len(values) > 1:
            notes.append(f"The evaluations differ in {name}: {'; '.join(values)}. They measured different flights.")
    return notes


def links(pairs: Sequence[Evaluated]) -> dict[str, str]:
    """MLflow's own pages on exactly these runs: ``policies`` and ``evaluations``."""
    runs = {"policies": [pair.trained for pair in pairs], "evaluations": [pair.evaluation for pair in pairs]}
    return {
        name: compare_page([one.run_id for one in some], [one.experiment_id for one in some])
        for name, some in runs.items()
    }


def comparison_page(comparison: Comparison) -> str:
    """Markdown: the table of groups, how to read it, the links, and the runs."""
    pages, trials = links(comparison.pairs), comparison.trials
    notes = "".join(f"\n- {note}" for note in comparison.notes)
    rows = [
        {"trained as": group, "seed": seed, "policy": _link(pair.trained), "evaluation": _link(pair.evaluation)}
        for group, seed, pair in zip(trials["group"], trials["seed"], comparison.pairs, strict=True)
    ]
    return (
        f"### Comparison\n\n{markdown_table(summary_rows(trials))}\n\nWorst cell of each evaluation, filter on. Mean "
        f"± half width of the {100 * CONFIDENCE:.0f} % Student-t interval over the n seeds; with n = 1 there is no "
        f"interval.{notes}\n\nIn MLflow: [compare the evaluations]({pages['evaluations']}), [compare the policies]"
        f"({pages['policies']}).\n\n### Compared runs\n\n{markdown_table(rows)}"
    )


def _link(record: Record) -> str:
    return f"[{record.run_id}]({run_page(record.run_id, record.experiment_id)})"


def mean_metrics(numbers: pd.DataFrame) -> dict[str, float]:
    """``comparison/<group>/<measure>``: the means, so that suites can be searched and compared in MLflow."""
    groups = numbers["group"].str.replace(r"[^\w. -]+", "_", regex=True).str[:150]  # what MLflow allows in names
    means = numbers.filter(regex="_mean$").rename(columns=lambda name: name.removesuffix("_mean")).set_index(groups)
    return {f"comparison/{group}/{name}": value for (group, name), value in means.stack().dropna().items()}
