"""The parameters of the entry points that read the store: exactly those that MLproject declares (a test compares)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from drone_cbf.config import Section, refuse_repeats
from drone_cbf.training.settings import without_blanks
from projects.cli.run_ids import RunId

RunIds = Annotated[tuple[RunId, ...], BeforeValidator(without_blanks)]


class Selection(Section):
    """Which runs of the store are meant: either a list, or an experiment."""

    runs: RunIds = ()
    """IDs of finished runs: suite, pipeline, safety or evaluate, in any mixture."""
    experiment: str = Field("", max_length=500)
    """Name of an experiment, in place of runs: all that was finished in it."""
    filter: str = Field("", max_length=6000)
    """Only runs of the experiment that match this, in the language of MLflow's search."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Selection:
        refuse_repeats("runs", self.runs)
        kept = getattr(self, "kept", "")  # the results page can be written from an earlier one alone
        if bool(self.runs) == bool(self.experiment) and (self.runs or not kept):
            state = "are both given" if self.runs else "are both missing"
            raise ValueError(f"runs and experiment {state}; give one: -P runs=<id>,<id> or -P experiment=<name>")
        if self.filter and not self.experiment:
            raise ValueError("filter goes with experiment; leave it out, or give -P experiment=<name> in place of runs")
        return self


class CompareParameters(Selection):
    """Compares trained policies over their seeds: tables, figures, and a link to MLflow's own comparison of the runs.

    Policies that were trained with the same settings but for the seed form one group; every group has its mean and the
    Student-t interval over its seeds.
    """

    examples: ClassVar[tuple[str, ...]] = (
        " -P runs=<suite run>,<safety run>",
        " -P experiment=drone_cbf -P filter=\"tags.drone_cbf.curriculum = 'default'\"",
        " -P experiment=drone_cbf",
    )


class ReportParameters(Selection):
    """Writes one HTML page and one PDF on runs: figures, evaluation, comparison, flights, versions, run IDs."""

    examples: ClassVar[tuple[str, ...]] = (" -P runs=<pipeline or suite run>", " -P experiment=drone_cbf")
    title: str = Field("drone_cbf: training report", min_length=1, max_length=120)
    """Heading of the report."""


class ResultsParameters(Selection):
    """Writes the results page from runs: the benchmark beside the original's figures, curricula, ablations, run IDs.

    What was not run is named on the page as not measured.
    """

    examples: ClassVar[tuple[str, ...]] = (
        " -P experiment=drone_cbf",
        " -P runs=<suite run>,<suite run> -P output=docs/results.md",
        " -P runs=<suite run> -P kept=docs/results.zip   # with what another machine measured",
    )
    output: str = Field("", max_length=1000)
    """Markdown file to write, from the project's folder; next to it go its data (.zip) and, where several seeds give
    intervals, the figure of its ablations (_ablations.png). Without it, all of them are artifacts of the run alone."""
    kept: str = Field("", max_length=1000)
    """The .zip file of an earlier page, from the project's folder: its policies join those of the runs, whatever store
    holds theirs; with it, runs and experiment may both be left out."""
    benchmark: str = Field("default", min_length=1, max_length=60)
    """Curriculum whose policies are held against the targets."""
