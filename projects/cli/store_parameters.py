"""The parameters of the entry points that read the store: exactly those that MLproject declares (a test compares)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from drone_cbf.config import SceneName, Section, refuse_repeats
from drone_cbf.training.settings import without_blanks
from projects.cli.run_ids import OptionalRunId, RunId

ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.-]+$")]
MODEL = "drone-policy"
"""Registered model that policies become versions of."""
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


class RegisterParameters(Section):
    """Registers a trained policy with its evidence as a new version of a model, which MLflow can load and serve."""

    examples: ClassVar[tuple[str, ...]] = (
        " -P run=<safety, evaluate or pipeline run>",
        " -P best_of=\"tags.drone_cbf.curriculum = 'default'\"",
    )
    run: OptionalRunId = ""
    """ID of an evaluated safety run, or of a run that leads to one: evaluate, pipeline. Give run or best_of."""
    best_of: str = Field("", max_length=5000)
    """Filter of MLflow's search_runs, as in "tags.drone_cbf.curriculum = 'default'". Of the finished evaluations found
    (or led to), the best is registered: fewest collisions, then smallest violation, then highest success, then smallest
    final distance."""
    model: ModelName = MODEL
    """Name of the registered model."""

    @model_validator(mode="after")
    def _has_one_source(self) -> RegisterParameters:
        if bool(self.run) == bool(self.best_of):
            first = "run (-P run=<safety, evaluate or pipeline run>)"
            raise ValueError(f"give one of {first} and best_of (-P best_of=<filter of search_runs>)")
        return self


class ExportParameters(Section):
    """Exports a registered policy as programs for other runtimes, after comparing them with it over a flight."""

    examples: ClassVar[tuple[str, ...]] = (
        " -P model=models:/drone-policy@champion",
        " -P model=models:/drone-policy/3 -P forms=stablehlo -P points=2048",
    )
    model: Annotated[str, Field(max_length=300, pattern=r"^models:/[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+|/[0-9]+)$")] = (
        f"models:/{MODEL}@champion"
    )
    """The version to export, by alias or number."""
    forms: Annotated[tuple[Literal["stablehlo", "onnx"], ...], Field(min_length=1), BeforeValidator(without_blanks)] = (
        "stablehlo",
        "onnx",
    )
    """``stablehlo``: for JAX, batches of any size; ``onnx``: for ONNX runtimes, one observation."""
    points: int = Field(512, ge=1, le=65536)
    """Points that the exported policy takes at once; a depth camera's has its image."""
    steps: int = Field(120, ge=100, le=5000)
    """Steps of the flight over which it is compared with the served policy."""
    scene: SceneName = "boxes"
    """Family of the scene of that flight."""
    noise: float = Field(0.02, ge=0.0, le=1.0)
    """Standard deviation of what is measured in it [m, m/s]."""
    seed: int = Field(0, ge=0)
    """Of its scene and noise."""
    tolerance: float = Field(0.01, gt=0.0, le=1.0)
    """Largest deviation of a command along an axis with which it is still exported [m/s^2]."""
    calls: int = Field(500, ge=20, le=100000)
    """Timed decisions of each kind."""

    @model_validator(mode="after")
    def _names_forms_once(self) -> ExportParameters:
        refuse_repeats("forms", self.forms)
        return self


class GateParameters(Section):
    """Judges an evaluation by thresholds and by the champion, and promotes what passes."""

    examples: ClassVar[tuple[str, ...]] = (
        " -P run=<evaluate, safety or pipeline run>",
        " -P champion=true",
        " -P run=<run id> -P promote=true",
    )
    run: OptionalRunId = ""
    """ID of an evaluate run, or of one that leads to it: safety, pipeline, register. Give run or champion."""
    champion: bool = False
    """Judge the present champion instead, by the absolute thresholds."""
    promote: bool = False
    """Make the run's newest registered version the champion, if it passes."""
    gates: str = Field("default", min_length=1, max_length=1000)
    """``default``: projects/gates.yaml; else a path to such a file, as a trial: no tag is set and nothing promoted by
    it."""
    model: ModelName = MODEL
    """Name of the registered model whose champion is meant."""

    @model_validator(mode="after")
    def _judges_one(self) -> GateParameters:
        if bool(self.run) == self.champion:
            first = "run (-P run=<evaluate, safety or pipeline run>)"
            raise ValueError(f"give one of {first} and champion (-P champion=true)")
        if self.champion and self.promote:
            raise ValueError(
                "the champion is promoted already; leave champion out and name a run: "
                "mlflow run . -e gate -P run=<run id> -P promote=true"
            )
        if self.promote and self.gates != "default":
            raise ValueError(
                "promote goes by projects/gates.yaml alone, so that every champion has passed the same; leave "
                "gates out, or change that file"
            )
        return self


class ReproduceParameters(Section):
    """Runs a recorded run again, from its stored settings, and says metric by metric whether it agrees."""

    run: RunId
    """ID of a finished run: efficiency, pretrain_cbf, safety or evaluate."""
    exact: Literal["auto", "always", "never"] = "auto"
    """Whether every figure must be the same to the last bit: ``auto`` demands it where versions and device are the
    same."""
    relative_tolerance: float = Field(0.05, ge=0.0, le=1.0)
    """Where exactness is not demanded: accepted difference as a fraction of the value."""
    absolute_tolerance: float = Field(0.01, ge=0.0)
    """Where exactness is not demanded: accepted difference beside that fraction, in the unit of the metric."""
