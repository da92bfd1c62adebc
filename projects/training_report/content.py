"""What a report says: facts, comparison, evaluation, flights, training, settings, environment and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from drone_cbf.config import SystemConfig
from drone_cbf.reporting.figures.curves import curves_together, training_curves
from drone_cbf.reporting.pages.document import (
    Block,
    Code,
    Document,
    Fact,
    Heading,
    Link,
    Section,
    Table,
    Text,
    picture_of,
)
from drone_cbf.reporting.tables import percent
from drone_cbf.tracking.queries.records import Record, history, settings
from drone_cbf.tracking.runs.stage_run import flatten, run_link
from drone_cbf.tracking.tags import versions_of
from projects.comparison.comparison import Comparison
from projects.stages import efficiency, pretrain_cbf, safety
from projects.training_report.evaluation import (
    ablations_section,
    comparison_section,
    evaluation_section,
    flights_section,
)
from projects.training_report.runs import ReportRuns

CURVES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "efficiency": efficiency.CURVES,
    "pretrain_cbf": pretrain_cbf.CURVES,
    "safety": safety.CURVES,
}
TITLES = {
    "efficiency": "efficiency: a policy that flies, without a filter",
    "pretrain_cbf": "pretrain_cbf: the neural barrier learns from the analytic one",
    "safety": "safety: policy and barrier learn jointly, through the filter",
}


def report_document(title: str, runs: ReportRuns, comparison: Comparison | None, written: str) -> Document:
    """The whole report; ``comparison``: None where nothing was evaluated."""
    sections = [runs_section(runs)]
    if comparison is not None:
        if len(comparison.trials) > 1:
            sections += filter(None, [comparison_section(comparison), ablations_section(comparison)])
        sections += [evaluation_section(comparison), flights_section(comparison)]
    else:
        last = runs.last_finished()
        command = f"mlflow run . -e evaluate -P parent_run={last.run_id if last else '<safety run>'}"
        sections.append(Section("Evaluation", [Text("None of these runs has been evaluated."), Code(command)]))
    sections += [training_section(runs, comparison), settings_section(runs), environment_section(runs)]
    sections.append(again_section(runs))
    count = len(runs.records)
    subtitle = f"{count} run{'s' * (count > 1)}, {_span(runs.records)}; written {written}"
    return Document(title, subtitle, facts(runs, comparison), sections)


def facts(runs: ReportRuns, comparison: Comparison | None) -> list[Fact]:
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
    rows = []
    for record in runs.records:
        row: dict[str, object] = {
            "stage": record.stage,
            "run": Link(record.run_id, run_link(record.run_id, record.experiment_id)),
            "curriculum": record.curriculum or measured.get(record.run_id) or None,
            "seed": record.seed if record.seed >= 0 else None,
            "status": record.status.lower(),
            "minutes": round(record.seconds / 60.0, 1) if record.seconds is not None else None,
            "started (UTC)": f"{record.started:%Y-%m-%d %H:%M}",
        }
        rows.append(row)
    blocks: list[Block] = [Table(rows)]
    failed = [record for record in runs.records if record.failure]
    if failed:
        failures = [{"run": record.run_id, "stage": record.stage, "why": record.failure} for record in failed]
        blocks += [Heading("Runs that did not end well"), Table(failures)]
    return Section("Runs", blocks)


def training_section(runs: ReportRuns, comparison: Comparison | None) -> Section:
    """Curves of every training stage, re-drawn from what the store recorded."""
    groups = dict(comparison.trials[["run_id", "group"]].to_numpy()) if comparison else {}
    blocks: list[Block] = []
    for stage, curves in CURVES.items():
        records = runs.finished(stage)
        if records:
            blocks += [Heading(TITLES[stage]), *_curves(records, curves, groups)]
    return Section("Training", blocks or [Text("None of these runs trained anything.")])


def _curves(records: Sequence[Record], curves: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> list[Block]:
    names = list(dict.fromkeys(name for group in curves.values() for name in group))
    histories = {record.run_id: history(record.run_id, names) for record in records}
    if not any(histories.values()):
        return [Text("No curves were recorded.")]
    if len(records) == 1:
        (record,) = records
        figure = training_curves(histories[record.run_id], curves)
        return [picture_of(figure, f"Run {record.run_id}: recorded values pale, their running mean on top.")]
    together: dict[str, list[Any]] = {}
    for record in records:
        together.setdefault(groups.get(record.run_id) or record.curriculum or record.stage, []).append(
            histories[record.run_id]
        )
    return [picture_of(curves_together(together, names), f"{len(records)} runs, running means; one line for each run.")]


def settings_section(runs: ReportRuns) -> Section:
    """Parameters of each stage, what differs from the defaults of the system, and the whole of it."""
    last = runs.last_finished()
    configs = {record.run_id: settings(record.run_id) for record in runs.records if record.status == "FINISHED"}
    if last is None:
        return Section("Settings", [Text("No finished run holds its settings.")])
    defaults = flatten({"system": SystemConfig().model_dump(mode="json")})
    used = flatten({"system": configs[last.run_id].get("system", {})})
    changed = [
        {"setting": key, "used": text, "default": defaults.get(key)}
        for key, text in used.items()
        if text != defaults.get(key)
    ]
    blocks: list[Block] = [Heading("Parameters of the stages"), Table(_stage_parameters(runs, configs))]
    blocks.append(Heading("Physics, scenes, sensor, barrier, filter, networks, objective"))
    blocks.append(Table(changed) if changed else Text("All as the defaults of this version."))
    text = yaml.safe_dump(configs[last.run_id].get("system", {}), sort_keys=False)
    blocks.append(Code(text, f"All settings of the system (run {last.run_id})"))
    return Section("Settings", blocks)


def _stage_parameters(runs: ReportRuns, configs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, object]]:
    """One row per stage and parameter; several values where runs of a stage differ."""
    values: dict[tuple[str, str], list[str]] = {}
    for record in runs.records:
        for key, text in flatten({"parameters": configs.get(record.run_id, {}).get("parameters", {})}).items():
            if key != "parent_run":
                values.setdefault((record.stage, key), []).append(text)
    return [
        {"stage": stage, "parameter": key, "value": " | ".join(dict.fromkeys(texts))}
        for (stage, key), texts in values.items()
    ]


def environment_section(runs: ReportRuns) -> Section:
    """Versions, device and commit, one column for each environment that the runs were made in."""
    environments = {record.run_id: _environment(record) for record in runs.records}
    kinds = list(dict.fromkeys(tuple(sorted(one.items())) for one in environments.values()))
    keys = list(dict.fromkeys(key for kind in kinds for key, _ in kind))
    heads = ["all runs"] if len(kinds) == 1 else [_stages_of(runs, environments, dict(kind)) for kind in kinds]
    rows = [
        {"what": key, **{head: dict(kind).get(key) for head, kind in zip(heads, kinds, strict=True)}} for key in keys
    ]
    return Section("Environment", [Table(rows)])


def _environment(record: Record) -> dict[str, str]:
    dirty = " with uncommitted changes" if record.tags.get("drone_cbf.git_dirty") == "true" else ""
    return {
        "commit": f"{record.commit or 'unknown'}{dirty}",
        "device": record.tags.get("drone_cbf.device", "unknown"),
        "kind of environment": record.tags.get("drone_cbf.environment", "unknown"),
        **versions_of(record.tags),
    }


def _stages_of(runs: ReportRuns, environments: Mapping[str, Mapping[str, str]], kind: Mapping[str, str]) -> str:
    members = [record for record in runs.records if environments[record.run_id] == kind]
    return f"{', '.join(dict.fromkeys(record.stage for record in members))} ({members[0].run_id[:8]} ...)"


def again_section(runs: ReportRuns) -> Section:
    """How to see and to repeat every run."""
    lines = [f"mlflow run . -e reproduce -P run={record.run_id}   # {record.stage}" for record in runs.records]
    text = Text("Each run can be repeated from its ID, and is compared figure by figure with what was recorded:")
    return Section("Repeat", [text, Code("\n".join(lines))])


def _span(records: Sequence[Record]) -> str:
    first, last = min(record.started for record in records), max(record.started for record in records)
    return f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
