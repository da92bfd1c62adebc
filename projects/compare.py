"""Entry point ``compare``: trained policies side by side, over their seeds."""

from __future__ import annotations

from collections.abc import Sequence

from drone_cbf.tracking.selection import chosen, evaluated
from projects.comparing import compare
from projects.reading_parameters import CompareParameters
from projects.running import EntryPoint, Outcome, Stage, run_stage

ENTRY = EntryPoint("compare", CompareParameters, device=False, system=False)


def work(stage: Stage) -> Outcome:
    named = bool(stage.parameters.runs)
    records = chosen(stage.parameters.runs, stage.parameters.experiment, stage.parameters.filter)
    return Outcome(compare(stage, evaluated(records, strict=named), strict=named))


def main(argv: Sequence[str] | None = None) -> int:
    return run_stage(ENTRY, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
