"""What a report says: facts, comparison, evaluation, flights, training, settings, environment and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
import yaml

from drone_cbf.config import SystemConfig
from drone_cbf.reporting.figures.curves import curves_together, training_curves
from drone_cbf.reporting.pages.document import Code, Document, Fact, Heading, Link, Section, Table, Text, picture_of
from drone_cbf.reporting.tables import percent
from drone_cbf.tracking.queries.records import Record, history, settings
from drone_cbf.tracking.runs.stage_run import flatten, run_link
from drone_cbf.tracking.tags import versions_of
from projects.comparison.comparison import Comparison
from projects.stages import efficiency, pretrain_cbf, safety
from projects.training_report import evaluation
from projects.training_report.runs import ReportRuns

STAGES: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]] = {
    "efficiency": ("a policy that flies, without a filter", efficiency.CURVES),
    "pretrain_cbf": ("the neural barrier learns from the analytic one", pretrain_cbf.CURVES),
    "safety": ("policy and barrier learn jointly, through the filter", safety.CURVES),
}
"""Training stage -> what it does, and its curves."""


def report_document(title: str, runs: ReportRuns, comparison: Comparison | None, written: str) -> Document:
    """The whole report; ``comparison``: None where nothing was evaluated."""
    sections = [runs_section(runs)]
    if comparison is not None:
        if len(comparison.trials) > 1:
            sections += [evaluation.comparison_section(comparison), *evaluation.ablations_section(comparison)]
        sections += [evaluation.evaluation_section(comparison), evaluation.flights_section(comparison)]
    else:
        last = runs.last_finished()
        command = f"mlflow run . -e evaluate -P parent_run={last.run_id if last else '<safety run>'}"
        sections.append(Section("Evaluation", [Text("None of these runs has been evaluated."), Code(command)]))
    sections += [training_section(runs, comparison), settings_section(runs), environment_section(runs)]
    lines = [f"mlflow run . -e reproduce -P run={record.run_id}   # {record.stage}" for record in runs.records]
    text = Text("Each run can be repeated from its ID, and is compared figure by figure with what was recorded:")
    sections.append(Section("Repeat", [text, Code("\n".join(lines))]))
    days = sorted({f"{record.started:%Y-%m-%d}" for record in runs.records})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    subtitle = f"{len(lines)} run{'s' * (len(lines) > 1)}, {span}; written {written}"
    return Document(title, subtitle, facts(comparison), sections)


def facts(comparison: Comparison | None) -> list[Fact]:
    """The figures to see first: of one policy, or of the worst of several."""
    if comparison is None:
        return []
    trials = comparison.trials.reindex(columns=comparison.trials.columns.union(["collisions", "rollouts"]))
    policies = f"worst cell of {len(trials)} policies" if len(trials) > 1 else "worst cell, filter on"
    collisions, flights = (int(trials[name].sum()) for name in ("collisions", "rollouts"))
    bounds = trials.get("collision_rate_total_ub99", pd.Series(dtype=float)).dropna()
    bound = f"of {flights:,} flights" + (f"; rate below {bounds.max():.2g} (99 %)" if len(bounds) else "")
    return [
        Fact("Success rate", percent(trials["success_rate"].min(skipna=False)), policies),
        Fact("Collisions", f"{collisions:,}", bound),
        Fact("Largest violation", f"{trials['max_violation'].max(skipna=False):.2f} m/s", policies),
        Fact("Relaxed steps", f"{trials['relax_rate'].max(skipna=False):.1e}", policies),
    ]


def runs_section(runs: ReportRuns) -> Section:
    """Every run with its ID and how it went."""
    measured = {pair.evaluation.run_id: pair.trained.curriculum for pair in runs.pairs}
    rows = [
        {
            "stage": record.stage,
            "run": Link(record.run_id, run_link(record.run_id, record.experiment_id)),
            "curriculum": record.curriculum or measured.get(record.run_id) or None,
            "seed": record.seed if record.seed >= 0 else None,
            "status": record.status.lower(),
            "minutes": round(record.seconds / 60.0, 1) if record.seconds is not None else None,
            "started (UTC)": f"{record.started:%Y-%m-%d %H:%M}",
        }
        for record in runs.records
    ]
    failed = [{"run": one.run_id, "stage": one.stage, "why": one.failure} for one in runs.records if one.failure]
    return Section("Runs", [Table(rows), *([Heading("Runs that did not end well"), Table(failed)] if failed else [])])


def training_section(runs: ReportRuns, comparison: Comparison | None) -> Section:
    """Curves of every training stage, re-drawn from what the store recorded."""
    groups = dict(comparison.trials[["run_id", "group"]].to_numpy()) if comparison else {}
    blocks: list[Any] = []
    for stage, (what, curves) in STAGES.items():
        if records := runs.finished(stage):
            blocks += [Heading(f"{stage}: {what}"), _curves(records, curves, groups)]
    return Section("Training", blocks or [Text("None of these runs trained anything.")])


def _curves(records: Sequence[Record], curves: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> Any:
    names = list(dict.fromkeys(chain.from_iterable(curves.values())))
    histories = [history(record.run_id, names) for record in records]
    if not any(histories):
        return Text("No curves were recorded.")
    if len(records) == 1:
        caption = f"Run {records[0].run_id}: recorded values pale, their running mean on top."
        return picture_of(training_curves(histories[0], curves), caption)
    together: dict[str, list[Any]] = {}
    for record, rows in zip(records, histories, strict=True):
        together.setdefault(groups.get(record.run_id) or record.curriculum or record.stage, []).append(rows)
    return picture_of(curves_together(together, names), f"{len(records)} runs, running means; one line for each run.")


def settings_section(runs: ReportRuns) -> Section:
    """Parameters of each stage, what differs from the defaults of the system, and the whole of it."""
    last = runs.last_finished()
    if last is None:
        return Section("Settings", [Text("No finished run holds its settings.")])
    configs = {record.run_id: settings(record.run_id) for record in runs.records if record.status == "FINISHED"}
    values: dict[tuple[str, str], list[str]] = {}
    for record in runs.records:
        for key, text in flatten({"parameters": configs.get(record.run_id, {}).get("parameters", {})}).items():
            if key != "parent_run":
                values.setdefault((record.stage, key), []).append(text)
    parameters = [
        {"stage": stage, "parameter": key, "value": " | ".join(dict.fromkeys(texts))}  # several where runs differ
        for (stage, key), texts in values.items()
    ]
    system = configs[last.run_id].get("system", {})
    used, defaults = flatten({"system": system}), flatten({"system": SystemConfig().model_dump(mode="json")})
    pairs = [(key, text, defaults.get(key)) for key, text in used.items()]
    changed = [{"setting": key, "used": text, "default": default} for key, text, default in pairs if text != default]
    blocks: list[Any] = [Heading("Parameters of the stages"), Table(parameters)]
    blocks.append(Heading("Physics, scenes, sensor, barrier, filter, networks, objective"))
    blocks.append(Table(changed) if changed else Text("All as the defaults of this version."))
    blocks.append(Code(yaml.safe_dump(system, sort_keys=False), f"All settings of the system (run {last.run_id})"))
    return Section("Settings", blocks)


def environment_section(runs: ReportRuns) -> Section:
    """Versions, device and commit, one column for each environment that the runs were made in."""
    found = [(record, _environment(record)) for record in runs.records]
    kinds = [kind for index, (_, kind) in enumerate(found) if kind not in [earlier for _, earlier in found[:index]]]
    columns = {}
    for kind in kinds:
        members = [record for record, own in found if own == kind]
        head = f"{', '.join(dict.fromkeys(one.stage for one in members))} ({members[0].run_id[:8]} ...)"
        columns[head if len(kinds) > 1 else "all runs"] = kind
    keys = sorted(set().union(*kinds))
    rows = [{"what": key, **{head: kind.get(key) for head, kind in columns.items()}} for key in keys]
    return Section("Environment", [Table(rows)])


def _environment(record: Record) -> dict[str, str]:
    dirty = " with uncommitted changes" if record.tags.get("drone_cbf.git_dirty") == "true" else ""
    return {
        "commit": f"{record.commit or 'unknown'}{dirty}",
        "device": record.tags.get("drone_cbf.device", "unknown"),
        "kind of environment": record.tags.get("drone_cbf.environment", "unknown"),
        **versions_of(record.tags),
    }
