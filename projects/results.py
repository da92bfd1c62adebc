"""Entry point ``results``: the results page of the repository, written from recorded runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.selection import chosen
from projects.reading_parameters import ResultsParameters
from projects.results_benchmark import benchmark_section
from projects.results_comparison import ablations_section, barriers_section, curricula_section, decay_section
from projects.results_evidence import evidence_section
from projects.results_learning import learning_section
from projects.results_runs import Measured, Policy, measured
from projects.running import ROOT, EntryPoint, Outcome, Stage, run_stage

ENTRY = EntryPoint("results", ResultsParameters, device=False, system=False)
PAGE = "results.md"
"""Artifact with the text of the page."""


def work(stage: Stage) -> Outcome:
    asked = stage.parameters
    records = chosen(asked.runs, asked.experiment, asked.filter)
    print(f"results: reading {len(records)} runs", flush=True)
    found = measured(records)
    page = results_page(found, asked.benchmark, command(asked))
    stage.run.log_text(page, PAGE)
    place = ROOT / asked.output
    write(place, page)
    print(f"results: {len(found.policies)} evaluated policies, written to {place}", flush=True)
    return Outcome(page)


def results_page(found: Measured, benchmark: str, written_by: str) -> str:
    """The whole page; ``benchmark``: the curriculum that is held against the targets."""
    head = (
        "# Results\n\n"
        f"Written by `{written_by}` on {datetime.now(UTC):%Y-%m-%d}, from the runs listed at the end; not by hand.\n\n"
        "Success is reaching the goal and staying there without a collision; the violation is (−(dh/dt + αh))₊ of the "
        "analytic barrier where the command acts, predicted from the true state (README, *What it measures*)."
    )
    notes = "\n".join(f"- {note}" for note in found.notes)
    policies = benchmark_policies(found, benchmark)
    sections = [
        *(filter(None, [notes])),
        benchmark_section(policies, benchmark),
        learning_section(found),
        curricula_section(found),
        barriers_section(found),
        ablations_section(found, benchmark),
        decay_section(found),
        evidence_section(found.policies),
    ]
    return "\n\n".join([head, *sections]) + "\n"


def benchmark_policies(found: Measured, name: str) -> list[Policy]:
    """Of the groups of that curriculum evaluated at blend 1, the one with the most seeds."""
    groups = [policies for (_, blend), policies in found.groups(name).items() if blend == 1.0]
    return max(groups, key=len, default=[])


def command(asked: ResultsParameters) -> str:
    """The command that writes the page."""
    given = {"runs": ",".join(asked.runs), "experiment": asked.experiment, "filter": asked.filter}
    given |= {"output": asked.output, "benchmark": "" if asked.benchmark == "default" else asked.benchmark}
    words = [f"-P {name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["mlflow run . -e results", *words])


def write(place: Path, page: str) -> None:
    """Raises ConfigError where the file cannot be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(page)
    except OSError as error:
        raise ConfigError(f"output = {place} cannot be written ({error.strerror}); name another file") from error


def main(argv: Sequence[str] | None = None) -> int:
    return run_stage(ENTRY, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
