"""Entry point ``reproduce``: runs a recorded run again and says, metric by metric, whether it agrees."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drone_cbf.config import Section, SystemConfig
from drone_cbf.errors import LineageError, ReproductionError
from drone_cbf.reporting.tables import markdown_table
from drone_cbf.tracking.links import linked
from drone_cbf.tracking.queries import agreement
from drone_cbf.tracking.queries.agreement import Comparison, Tolerance
from drone_cbf.tracking.queries.records import read
from drone_cbf.tracking.runs.lineage import get_run, load_artifact, resolve_parent
from drone_cbf.tracking.runs.nesting import run_child
from drone_cbf.tracking.tags import CURRICULUM_FILE
from projects.cli.arguments import as_text, build_system, parse
from projects.inputs.curriculum_files import load_curriculum
from projects.running.entry_points import ENTRY_POINTS
from projects.running.populations import population_above
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.running.worker import prepare_for_children

REPEATABLE = ("efficiency", "pretrain_cbf", "safety", "evaluate")
NOT_REPEATED = ("resume_run",)
"""Parameters that say how a run came about, not what it computes."""
Changes = Mapping[str, tuple[str, str]]
"""Version, commit, device or parameter that differs -> recorded and repeated value."""
SHOWN = 20
"""Metrics that the description shows; the table artifact holds all."""


def work(stage: Stage) -> Outcome:
    recorded = read_recorded(stage.parameters.run)
    stage.run.tag(reproduces=recorded.run_id)
    prepare_for_children()
    print(f"reproduce: {recorded.stage} run {recorded.run_id} starts again", flush=True)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        child = run_child(stage.run, ROOT, recorded.stage, recorded.arguments(Path(folder)))
    before, after = get_run(recorded.run_id, "run"), get_run(child.run_id, "run")
    changed = agreement.environment_differences(before.data.tags, after.data.tags)
    changed |= {name: ("not there yet", value) for name, value in recorded.newer.items()}
    if population_above(read(recorded.run_id)):  # whose sums are rounded in another order
        changed["trained"] = ("in a population", "alone")
    wanted = stage.parameters
    exact = wanted.exact == "always" or (wanted.exact == "auto" and not changed)
    own = Tolerance(relative=wanted.relative_tolerance, absolute=wanted.absolute_tolerance)
    tolerance = Tolerance() if exact else own  # every bit must agree, or as the parameters say
    stage.recorder.begin("compare", len(agreement.figure_names(before, after)))
    rows = agreement.compare_runs(before, after, tolerance, lambda number: stage.recorder.metrics(number, {}))
    page = agreement_page(before, after, rows, changed, tolerance)
    return conclude(stage, recorded, rows, page)


def conclude(stage: Stage, recorded: Recorded, rows: Sequence[Comparison], page: str) -> Outcome:
    """Leaves table, tags and summary, and fails where a metric disagrees."""
    table = {name: [asdict(row)[name] for row in rows] for name in asdict(rows[0])} if rows else {"metric": []}
    stage.run.log_table(table, "tables/reproduction.json")
    wrong = [row for row in rows if row.disagreeing]
    agrees = bool(rows) and not wrong
    stage.run.log_metrics({"reproduction/metrics": len(rows), "reproduction/disagreeing": len(wrong)})
    stage.run.tag(reproduction="agrees" if agrees else "differs")
    stage.run.describe(page)
    if not rows:
        reason = "recorded no metric, so nothing can be compared; name another run"
        raise ReproductionError(f"run {recorded.run_id} {reason}")
    if wrong:
        first = max(wrong, key=lambda row: row.disagreeing)
        raise ReproductionError(
            f"{len(wrong)} of {len(rows)} metrics disagree with run {recorded.run_id}, most steps of {first.metric} "
            f"({first.disagreeing} of {first.steps}, from step {first.first} on); see tables/reproduction.json"
        )
    print(f"reproduce: all {len(rows)} metrics of run {recorded.run_id} agree at every step", flush=True)
    return Outcome(page)


def agreement_page(
    recorded: Any, repeated: Any, rows: Sequence[Comparison], changed: Changes, tolerance: Tolerance
) -> str:
    """The verdict, what differs between the two runs' environments, and the metrics that differ most, in Markdown."""
    wrong = sum(row.disagreeing > 0 for row in rows)
    verdict = f"{wrong} of {len(rows)} metrics disagree" if wrong else f"all {len(rows)} metrics agree at every step"
    accepted = "to the last bit"
    if tolerance != Tolerance():
        accepted = f"within {tolerance.absolute:g} + {tolerance.relative:g} x the value"
    before, after = (linked(run.info.run_id, run.info.experiment_id) for run in (recorded, repeated))
    environment = [{"": name, "recorded": pair[0], "repeated": pair[1]} for name, pair in changed.items()]
    parts = [
        f"### Reproduction: {verdict}",
        f"Recorded: run {before}. Repeated: run {after}. Figures must agree {accepted}.",
        "#### Environment",
        markdown_table(environment) if changed else "Commit, versions and device are the same.",
    ]
    if rows:
        ordered = sorted(rows, key=lambda row: (-row.disagreeing, -np.nan_to_num(row.largest_difference, nan=np.inf)))
        shown = [_row(row) for row in ordered[:SHOWN]]
        parts += ["#### Metrics, the most different first", markdown_table(shown)]
    if len(rows) > SHOWN:
        parts.append(f"{len(rows) - SHOWN} more in `tables/reproduction.json`.")
    return "\n\n".join(parts)


def _row(row: Comparison) -> dict[str, object]:
    counts = {"steps": row.steps, "disagreeing": row.disagreeing, "first at step": row.first}
    last = {"recorded, last": row.recorded, "repeated, last": row.repeated}
    own = {"metric": row.metric, "agrees": not row.disagreeing}
    return {**own, **counts, "largest difference": row.largest_difference, **last}


@dataclass(frozen=True)
class Recorded:
    """A finished run that can be repeated."""

    run_id: str
    stage: str
    given: dict[str, str]
    """Every parameter and every field of its system, as on the command line."""
    curriculum: str | None
    """The curriculum as it was then, JSON; None where the stage has none."""
    newer: dict[str, str]
    """Parameters and fields of the system that did not exist yet when it was recorded, at their defaults of today."""

    def arguments(self, folder: Path) -> dict[str, str]:
        """What the entry point is given; the curriculum, for its file may have changed, is written to ``folder``."""
        if self.curriculum is None:
            return self.given
        file = folder / "curriculum.yaml"
        file.write_text(self.curriculum, encoding="utf-8")  # JSON is YAML
        return {**self.given, "curriculum": str(file)}


def read_recorded(run_id: str) -> Recorded:
    """The run with all that it was given, checked against the parameters of today before any work.

    Raises:
        LineageError: there is no such run, it is not finished, of another stage, or lacks its config.
        ConfigError: a stored parameter is unknown today, or out of today's range.
    """
    recorded = resolve_parent(run_id, REPEATABLE, called="run")
    if "parameters" not in recorded.config:
        raise LineageError(f"config.yaml of run {run_id} has no parameters; it cannot be repeated")
    parameters, system = recorded.config["parameters"], recorded.config["system"]
    asked = {name: value for name, value in parameters.items() if value is not None and name not in NOT_REPEATED}
    given = {name: as_text(value) for name, value in asked.items()}
    for group, fields in system.items():
        given |= {f"{group}.{name}": as_text(value) for name, value in fields.items()}
    curriculum = load_artifact(run_id, CURRICULUM_FILE) if recorded.stage == "safety" else None
    newer = _newer(ENTRY_POINTS[recorded.stage].parameters, parameters, system)
    result = Recorded(run_id, recorded.stage, given, curriculum, newer)
    with tempfile.TemporaryDirectory(prefix="drone_cbf-") as folder:
        _check(result, Path(folder), parameters, system)
    return result


def _newer(model: type[Section], parameters: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, str]:
    """What the command line of today has and the run had not, with the value that is taken."""
    old = {*parameters, *NOT_REPEATED}
    found = {name: field.default for name, field in model.model_fields.items() if name not in old}
    for group, fields in SystemConfig().model_dump(mode="json").items():
        found |= {f"{group}.{name}": value for name, value in fields.items() if name not in system.get(group, {})}
    return {name: as_text(value) for name, value in found.items()}


def _check(recorded: Recorded, folder: Path, parameters: Mapping[str, Any], system: Mapping[str, Any]) -> None:
    """What will be parsed must be what was stored."""
    arguments = recorded.arguments(folder)
    words = [f"--{name}={text}" for name, text in arguments.items()]
    parsed = parse(recorded.stage, ENTRY_POINTS[recorded.stage].parameters, words)
    if recorded.curriculum is not None:
        load_curriculum(arguments["curriculum"])
    again = parsed.parameters.model_dump(mode="json")
    # The curriculum is read from the run, not from its file of today.
    compared = recorded.given.keys() & parameters.keys() - {"curriculum"}
    changed = sorted(name for name in compared if again.get(name) != parameters[name])
    rebuilt = build_system(None, parsed.system).model_dump(mode="json")
    expected = SystemConfig.model_validate(system).model_dump(mode="json")
    if changed or rebuilt != expected:
        raise LineageError(
            f"run {recorded.run_id} was given other parameters than this version has "
            f"({', '.join(changed) or 'system'}); repeat it with the commit that recorded it"
        )
