"""The entry points of MLproject, by name. Nothing here is slow to import: ``--help`` and the parse need no JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drone_cbf.config import Section, SystemConfig
from projects.cli import stage_parameters, store_parameters
from projects.cli.arguments import KEPT_FROM_PARENT, build_system
from projects.inputs.curriculum_levels import named_curriculum
from projects.inputs.pipeline_sizes import with_sizes


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
    complete: Callable[[Any], Any] = lambda parameters: parameters
    """Fills in the parameters that the command line leaves to a file."""

    def system_of(self, parameters: Any, inherited: dict[str, Any] | None, given: dict[str, Any]) -> SystemConfig:
        """The ``inherited`` system, under what ``parameters`` imply, under what the command line has ``given``."""
        implied = self.implied(parameters) if self.implied else {}
        both = {group: {**implied.get(group, {}), **given.get(group, {})} for group in {*implied, *given}}
        return build_system(inherited, both, KEPT_FROM_PARENT)


EFFICIENCY = EntryPoint("efficiency", stage_parameters.EfficiencyParameters, "projects.stages.efficiency")
PRETRAIN_CBF = EntryPoint(
    "pretrain_cbf", stage_parameters.PretrainParameters, "projects.stages.pretrain_cbf", parents=("efficiency",)
)
SAFETY = EntryPoint(
    "safety",
    stage_parameters.SafetyParameters,
    "projects.stages.safety",
    parents=("pretrain_cbf", "safety"),
    implied=lambda parameters: named_curriculum(parameters).system_groups,
)
EVALUATE = EntryPoint(
    "evaluate",
    stage_parameters.EvaluateParameters,
    "projects.stages.evaluate",
    parents=("efficiency", "pretrain_cbf", "safety"),
)
PIPELINE = EntryPoint(
    "pipeline",
    stage_parameters.PipelineParameters,
    "projects.workflows.pipeline",
    device=False,
    worker=True,
    complete=with_sizes,
)
SUITE = EntryPoint(
    "suite",
    stage_parameters.SuiteParameters,
    "projects.workflows.suite",
    parents=("pretrain_cbf", "safety"),
    device=False,
)


def _store_reader(name: str, parameters: type[Section], work: str, *, device: bool = False) -> EntryPoint:
    """An entry point that builds on recorded runs and flies no system of its own."""
    return EntryPoint(name, parameters, work, device=device, system=False)


REPRODUCE = _store_reader("reproduce", stage_parameters.ReproduceParameters, "projects.workflows.reproduce")
REGISTER = _store_reader("register", stage_parameters.RegisterParameters, "projects.registration.register", device=True)
GATE = _store_reader("gate", stage_parameters.GateParameters, "projects.registration.gate")
COMPARE = _store_reader("compare", store_parameters.CompareParameters, "projects.comparison.comparison")
REPORT = _store_reader("report", store_parameters.ReportParameters, "projects.training_report.report")
RESULTS = _store_reader("results", store_parameters.ResultsParameters, "projects.results_page.results")

ENTRY_POINTS = {
    entry.name: entry
    for entry in (
        EFFICIENCY,
        PRETRAIN_CBF,
        SAFETY,
        EVALUATE,
        PIPELINE,
        SUITE,
        REPRODUCE,
        REGISTER,
        GATE,
        COMPARE,
        REPORT,
        RESULTS,
    )
}
