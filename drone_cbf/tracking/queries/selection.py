"""The runs that a comparison or a report covers: from what a user names to trained runs with their evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drone_cbf.errors import ConfigError, LineageError
from drone_cbf.tracking.queries import records
from drone_cbf.tracking.queries.records import Record, evaluations_of, read
from drone_cbf.tracking.runs.lineage import check_finished, get_active_run, stage_text
from drone_cbf.tracking.runs.resuming import check_resumable, latest_progress
from drone_cbf.tracking.tags import GROUPS, INTERRUPTED

TRAINING_STAGES = ("efficiency", "pretrain_cbf", "safety")
_KNOWN = (*TRAINING_STAGES, "evaluate", *GROUPS)
MEMBERS_FILE = "suite.json"
"""Artifact of a suite, and of a sweep: the runs of its members, reused ones included."""


@dataclass(frozen=True)
class Evaluated:
    """A trained run and its newest finished evaluation."""

    trained: Record
    evaluation: Record


def select_runs(runs: Sequence[str], experiment: str, query: str = "") -> list[Record]:
    """The runs that are named, or those of the experiment that match; suites and pipelines as single runs.

    Raises LineageError if a named run does not exist, is deleted, or belongs to another project, and ConfigError if the
    experiment does not exist, the query is wrong, or no run of this project matches.
    """
    if runs:
        return [_of_this_project(read(run_id)) for run_id in runs]
    found = records.search(query, records.experiment_id(experiment))
    found = [record for record in found if record.stage in _KNOWN]
    if not found:
        matching = f" that matches {query}" if query else ""
        raise ConfigError(f"experiment {experiment} holds no run of a stage{matching}; name another, or train first")
    return found


def members(record: Record) -> list[Record]:
    """The runs of a suite or a pipeline; for any other run the run itself."""
    if record.stage not in GROUPS:
        return [record]
    stored = records.json_artifact(record.run_id, MEMBERS_FILE) if record.stage in ("suite", "sweep") else None
    if stored is None:
        return [child for child in records.nested(record) if child.stage]  # not what only stood in for a resumed run
    try:
        named = [member["run_id"] for member in stored["members"] if member["run_id"]]
    except (KeyError, TypeError) as error:
        raise LineageError(
            f"{MEMBERS_FILE} of run {record.run_id} lists no runs; start the {record.stage} again"
        ) from error
    return [read(run_id) for run_id in named]


def evaluated(selected: Sequence[Record], strict: bool) -> list[Evaluated]:
    """Trained runs with their evaluations, each pair once, in the given order.

    A trained run is paired with its newest finished evaluation, an evaluation with the run that it measured. Runs
    without one are left out. Raises LineageError if no pair is left or, with ``strict``, a run that is named
    individually is unfinished, failed or not evaluated.
    """
    pairs: dict[str, Evaluated] = {}
    for named in selected:
        must = strict and named.stage not in GROUPS
        if must:
            check_finished(get_active_run(named.run_id))
        for record in members(named):
            if pair := _pair(record):
                pairs[pair.evaluation.run_id] = pair
            elif must:
                what = f"run {record.run_id} ({record.stage})"
                raise LineageError(f"{what} has no finished evaluation; {_remedy(record)}")
    if not pairs:
        raise LineageError(f"none of the {len(selected)} runs has a finished evaluation; {_remedy(selected[-1])}")
    return list(pairs.values())


def is_resumable(record: Record) -> bool:
    """Whether a run was interrupted and can be resumed. A run that failed by its own error would only fail again.

    The status alone does not show it: ``mlflow run`` marks interrupted runs as FAILED.
    """
    failed = record.failure and not record.failure.startswith(INTERRUPTED)
    if record.status == "FINISHED" or (record.status == "FAILED" and failed):
        return False
    try:
        check_resumable(record.run_id, record.stage)
    except LineageError:
        return False
    return latest_progress(record.run_id) is not None


def _pair(record: Record) -> Evaluated | None:
    if record.status != "FINISHED":
        return None
    if record.stage == "evaluate":
        return Evaluated(read(record.parent_run), record) if record.parent_run else None
    found = evaluations_of(record.run_id) if record.stage in TRAINING_STAGES else []
    return Evaluated(record, records.to_record(found[-1])) if found else None


def _of_this_project(record: Record) -> Record:
    if record.stage in _KNOWN:
        return record
    remedy = f"name a run of {', '.join(_KNOWN[:-1])} or {_KNOWN[-1]}"
    raise LineageError(f"run {record.run_id} is {stage_text(record.stage)}; {remedy}")


def _remedy(record: Record) -> str:
    run = record.run_id if record.stage in TRAINING_STAGES else "<safety run>"
    return f"evaluate first: mlflow run . -e evaluate -P parent_run={run}"
