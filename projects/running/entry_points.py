"""The entry points of MLproject, by name. Nothing here is slow to import: ``--help`` and the parse need no JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from drone_cbf.config import Section, SystemConfig
from projects.cli import stage_parameters as flown
from projects.cli import store_parameters as stored
from projects.cli.arguments import KEPT_FROM_PARENT, build_system
from projects.cli.sweep_parameters import SweepParameters
from projects.inputs.curriculum_files import with_sizes
from projects.inputs.curriculum_levels import named_curriculum

POPULATION = "population"
"""Stage of the run above the members of a population."""


@dataclass(frozen=True)
class EntryPoint:
    """An entry point of MLproject."""

    name: str
    parameters: type[Section]
    work: str = ""
    """Module whose function ``work`` does it."""
    parents: tuple[str, ...] = ()
    """Stages that ``parent_run`` may come from; none: the stage starts a lineage."""
    device: bool = True
    """Whether the stage itself computes with JAX."""
    system: bool = True
    """Whether it takes the system's settings (``physics.lag_time`` and so on): False where it only reads the store."""
    implied: Callable[[Any], dict[str, dict[str, Any]]] | None = None
    """From its parameters to the settings of the system that go with them: group -> field -> value."""
    worker: bool = False
    """Whether its children run in one process, which starts while the entry point itself does."""
    trains: bool = False
    """Whether seeds can be trained as a population."""
    of: str = ""
    """For a population: the stage that its members are trained by."""
    complete: Callable[[Any], Any] = lambda parameters: parameters
    """Fills in the parameters that the command line leaves to a file."""

    @property
    def command(self) -> str:
        """Its name in MLproject."""
        return self.of or self.name

    @property
    def is_divisible(self) -> bool:
        """Whether several processes can share its flights: where it trains a single seed."""
        return self.trains and not self.of

    def as_population(self) -> EntryPoint:
        """Trains several seeds, each as a run of this entry point; their parents may be the members of another one."""
        parents = (*self.parents, POPULATION) if self.parents else ()
        return replace(self, name=POPULATION, work="projects.workflows.population", of=self.name, parents=parents)

    def system_of(self, parameters: Any, inherited: dict[str, Any] | None, given: dict[str, Any]) -> SystemConfig:
        """The ``inherited`` system, under what ``parameters`` imply, under what the command line has ``given``."""
        implied = self.implied(parameters) if self.implied else {}
        both = {group: {**implied.get(group, {}), **given.get(group, {})} for group in {*implied, *given}}
        return build_system(inherited, both, KEPT_FROM_PARENT)


_store_reader = partial(EntryPoint, device=False, system=False)
"""Builds on recorded runs and flies no system of its own."""
_BARRIERS = ("pretrain_cbf", "safety")
_ENTRIES = (
    EntryPoint("efficiency", flown.EfficiencyParameters, "projects.stages.efficiency", trains=True),
    EntryPoint(
        "pretrain_cbf", flown.PretrainParameters, "projects.stages.pretrain_cbf", parents=("efficiency",), trains=True
    ),
    EntryPoint(
        "safety",
        flown.SafetyParameters,
        "projects.stages.safety",
        parents=_BARRIERS,
        trains=True,
        implied=lambda parameters: named_curriculum(parameters).system_groups,
    ),
    EntryPoint("evaluate", flown.EvaluateParameters, "projects.stages.evaluate", parents=("efficiency", *_BARRIERS)),
    EntryPoint(
        "pipeline",
        flown.PipelineParameters,
        "projects.workflows.pipeline",
        device=False,
        worker=True,
        complete=with_sizes,
    ),
    EntryPoint("suite", flown.SuiteParameters, "projects.workflows.suite", parents=_BARRIERS, device=False),
    EntryPoint("sweep", SweepParameters, "projects.sweeping.sweep", parents=_BARRIERS, device=False),
    _store_reader("reproduce", stored.ReproduceParameters, "projects.workflows.reproduce"),
    _store_reader("register", stored.RegisterParameters, "projects.registration.register", device=True),
    _store_reader("export", stored.ExportParameters, "projects.exporting.export", device=True),
    _store_reader("gate", stored.GateParameters, "projects.registration.gate"),
    _store_reader("compare", stored.CompareParameters, "projects.comparison.comparison"),
    _store_reader("report", stored.ReportParameters, "projects.training_report.report"),
    _store_reader("results", stored.ResultsParameters, "projects.results_page.results"),
)
ENTRY_POINTS = {entry.name: entry for entry in _ENTRIES}
