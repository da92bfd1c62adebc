"""Entry point ``pipeline``: the four stages as children of one run; stops at the first failure and says where."""

from __future__ import annotations

from collections.abc import Mapping

from drone_cbf.tracking.queries.cells import evaluation_figures
from drone_cbf.tracking.runs.lineage import get_run
from drone_cbf.tracking.runs.nesting import ChildRun, run_child
from projects.cli.stage_parameters import PipelineParameters
from projects.inputs.curriculum_files import load_curriculum
from projects.inputs.curriculum_levels import blend_flown
from projects.running.stage_runner import ROOT, Outcome, Stage, own_interpreter_first
from projects.running.summaries import lineage_table, worst_cell_summary

WORST_CELL = ("eval", "eval_unfiltered")
"""Prefixes of the figures that evaluate gives for the worst cell: ``eval/<metric>``."""


def work(stage: Stage) -> Outcome:
    # First of all: a wrong curriculum must not cost the training of two stages.
    planned = stage_parameters(stage.parameters, stage.given_system)
    own_interpreter_first()
    done: list[ChildRun] = []
    for entry, parameters in planned.items():
        print(f"pipeline: {entry} starts", flush=True)
        if done:
            parameters = {**parameters, "parent_run": done[-1].run_id}
        done.append(run_child(stage.run, ROOT, entry, parameters))
    stage.run.log_metrics(worst_cell(done[-1].metrics))
    summary = worst_cell_summary(evaluation_figures(get_run(done[-1].run_id)))
    return Outcome(f"{summary}\n\n{lineage_table(done, stage.run.experiment_id)}")


def stage_parameters(parameters: PipelineParameters, given_system: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Entry point -> what it is given, in the order in which they run.

    Raises:
        ConfigError: the curriculum does not exist or is not valid.
    """
    given = {name: str(value) for name, value in parameters.model_dump().items()}
    curriculum = load_curriculum(parameters.curriculum)

    def pick(*names: str) -> dict[str, str]:
        return {name: given[name] for name in names}

    return {
        "efficiency": {
            **given_system,
            **pick("seed", "batch", "horizon", "report_flights"),
            "steps": given["efficiency_steps"],
        },
        "pretrain_cbf": {**pick("seed", "horizon", "report_flights"), "steps": given["pretrain_steps"]},
        "safety": pick("seed", "batch", "report_flights", "curriculum"),
        "evaluate": {**pick("rollouts", "horizon"), "blend": blend_flown(parameters.blend, curriculum)},
    }


def worst_cell(metrics: dict[str, float]) -> dict[str, float]:
    """The figures without a cell in their name."""
    parts = {name: name.split("/") for name in metrics}
    return {name: value for name, value in metrics.items() if len(parts[name]) == 2 and parts[name][0] in WORST_CELL}
