"""The runs of a report: those named or their members, with their ancestors and evaluations, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drone_cbf.errors import LineageError
from drone_cbf.tracking.queries.records import Record, read
from drone_cbf.tracking.queries.selection import TRAINING_STAGES, Evaluated, evaluated, members
from drone_cbf.tracking.runs.lineage import ancestry

STAGE_ORDER = (*TRAINING_STAGES, "evaluate")


@dataclass(frozen=True)
class ReportRuns:
    """All that a report tells of."""

    records: list[Record]
    """Stages in the order of the lineage, oldest first within each; failed ones included."""
    pairs: list[Evaluated]
    """Finished policies with their evaluations; empty where nothing was evaluated."""

    def last_finished(self) -> Record | None:
        """Of the stages that ended well the latest in the lineage."""
        return next((record for record in reversed(self.records) if record.status == "FINISHED"), None)

    def finished(self, stage: str) -> list[Record]:
        """The runs of one stage that ended well."""
        return [record for record in self.records if record.stage == stage and record.status == "FINISHED"]


def collect(named: Sequence[Record]) -> ReportRuns:
    """Opens suites and pipelines, and adds what their members were built on and how they were measured."""
    found: dict[str, Record] = {}
    for record in named:
        for run_id in (run.info.run_id for member in members(record) for run in ancestry(member.run_id)):
            found[run_id] = found.get(run_id) or read(run_id)
    done = [record for record in found.values() if record.status == "FINISHED"]
    trained = [record for record in done if record.stage in TRAINING_STAGES]
    given = [record for record in done if record.stage == "evaluate"]
    measured = {record.parent_run for record in given}
    try:
        # The newest evaluation of a policy, unless evaluations of it were named themselves.
        others = [record for record in trained if record.run_id not in measured]
        pairs = evaluated([*given, *others], strict=False) if given or others else []
    except LineageError:
        pairs = []
    found |= {pair.evaluation.run_id: pair.evaluation for pair in pairs}
    known = [record for record in found.values() if record.stage in STAGE_ORDER]
    if not known:
        raise LineageError(f"run {named[0].run_id} ({named[0].stage}) has no stage to report on; name another run")
    ordered = sorted(known, key=lambda record: (STAGE_ORDER.index(record.stage), record.started))
    return ReportRuns(ordered, pairs)
