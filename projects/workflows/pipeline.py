"""Entry point ``pipeline``: the four stages as children of one run; stops at the first failure and says where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drone_cbf.tracking.queries.cells import PREFIX, evaluation_figures
from drone_cbf.tracking.runs.lineage import get_run
from drone_cbf.tracking.runs.nesting import ChildRun, StageFailed, finished_child, run_child
from drone_cbf.tracking.runs.resuming import can_resume
from drone_cbf.tracking.tags import NESTED_TAG, entry_of
from projects.cli.arguments import as_text, mlflow_run
from projects.cli.stage_parameters import PIPELINE_SIZES, PipelineParameters
from projects.inputs.curriculum_files import load_curriculum
from projects.inputs.curriculum_levels import blend_flown
from projects.running.populations import parent_of_seed
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.running.summaries import lineage_table, worst_cell_summary
from projects.running.worker import prepare_for_children
from projects.workflows.plans import CURRICULA, check_unchanged, own_children, store_plan, stored_plan, wait_for_end

STAGES = "stages"
"""Part of the plan: entry point -> what it is given."""
RESUMED = ("efficiency", "pretrain_cbf", "safety")
GO_ON = "Correct the cause, then go on with"


def work(stage: Stage) -> Outcome:
    # First of all: a wrong curriculum must not cost the training of two stages.
    plan = stored_plan(stage.run.run_id) or new_plan(stage)
    prepare_for_children()
    done: list[ChildRun] = []
    for entry, parameters in plan[STAGES].items():
        try:
            for parent in _parents(stage, entry, done):
                done.append(_stage(stage, plan, entry, parameters, parent))
        except StageFailed as error:
            error.add_note(f"The stages that have finished are kept. {GO_ON}: {resumption(stage)}")
            raise
    lineage = lineage_table(done, stage.run.experiment_id)
    if seeds := stage.parameters.seeds:
        return _of_seeds(stage, dict(zip(seeds, done[-len(seeds) :], strict=True)), lineage)
    stage.run.log_metrics(worst_cell(done[-1].metrics))
    worst = worst_cell_summary(evaluation_figures(get_run(done[-1].run_id)))
    return Outcome(f"{worst}\n\n{lineage}", following=(mlflow_run("register", {"run": stage.run.run_id}),))


def _parents(stage: Stage, entry: str, done: Sequence[ChildRun]) -> list[str | None]:
    """What ``entry`` builds on, once for each run of it: every seed of a population is evaluated by itself."""
    before = done[-1].run_id if done else None
    if before and entry == "evaluate" and stage.parameters.seeds:
        return [parent_of_seed(before, seed) for seed in stage.parameters.seeds]
    return [before]


def _of_seeds(stage: Stage, evaluations: Mapping[int, ChildRun], lineage: str) -> Outcome:
    """The worst cells of every seed."""
    pages = []
    for seed, child in evaluations.items():
        figures = worst_cell(child.metrics)
        stage.run.log_metrics({f"seed{seed}/{name}": value for name, value in figures.items()})
        pages.append(f"## Seed {seed}\n\n{worst_cell_summary(evaluation_figures(get_run(child.run_id)))}")
    best = f"tags.`{NESTED_TAG}` = '{stage.run.run_id}'"
    return Outcome("\n\n".join((*pages, lineage)), following=(mlflow_run("register", {"best_of": best}),))


def new_plan(stage: Stage) -> dict[str, Any]:
    stages = stage_parameters(stage.parameters, stage.given_system)
    store_plan(stage, [stage.parameters.curriculum], {STAGES: stages})
    return {STAGES: stages}


def _stage(
    stage: Stage, plan: Mapping[str, Any], entry: str, parameters: Mapping[str, str], parent: str | None
) -> ChildRun:
    """The child that has done ``entry``: an earlier one that has finished, one that is resumed, or a new one."""
    earlier = [run for run in own_children(stage.run.run_id) if entry_of(run.tags) == entry]
    if entry == "evaluate":
        earlier = [run for run in earlier if run.parent_run in (None, parent)]
    wait_for_end(earlier)
    if finished := [run for run in earlier if run.status == "FINISHED"]:
        print(f"pipeline: {entry} has finished in run {finished[-1].run_id}", flush=True)
        return finished_child(finished[-1].run_id)
    given = {**parameters, **({"parent_run": parent} if parent else {})}
    interrupted = [run.run_id for run in earlier if entry in RESUMED and can_resume(run.run_id, run.stage)]
    if interrupted:  # its settings are its own
        given = {"resume_run": interrupted[-1]}
    elif CURRICULA in plan and "curriculum" in parameters:
        check_unchanged(plan, parameters["curriculum"])
    print(f"pipeline: {entry} {f'goes on in run {interrupted[-1]}' if interrupted else 'starts'}", flush=True)
    return run_child(stage.run, ROOT, entry, given)


def resumption(stage: Stage) -> str:
    return mlflow_run("pipeline", {"resume_run": stage.run.run_id})


def stage_parameters(parameters: PipelineParameters, given_system: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Entry point -> what it is given, in the order in which they run.

    Raises:
        ConfigError: the curriculum does not exist or is not valid.
    """
    given = {name: as_text(value) for name, value in parameters.model_dump().items()}
    curriculum = load_curriculum(parameters.curriculum)

    def pick(*names: str) -> dict[str, str]:
        return {name: given[name] for name in names}

    def changed(*names: str) -> dict[str, str]:
        return pick(*(name for name in names if getattr(parameters, name) != PIPELINE_SIZES[name]))

    system = {name: as_text(value) for name, value in curriculum.trained_with.items()} | dict(given_system)
    scenes, matrix = changed("scenes"), changed("unfiltered_rollouts", "scenarios", "noise", "goals")
    evaluate = {**pick("rollouts"), "horizon": given["evaluation_horizon"]}
    seeds = pick("seeds") if parameters.seeds else pick("seed")
    first = {**system, **seeds, **pick("batch", "horizon", "report_flights"), "steps": given["efficiency_steps"]}
    if rate := changed("efficiency_learning_rate"):
        first["learning_rate"] = rate["efficiency_learning_rate"]
    return {
        "efficiency": first | scenes,
        "pretrain_cbf": {
            **seeds,
            **pick("horizon", "report_flights"),
            "steps": given["pretrain_steps"],
            **scenes,
        },
        "safety": {**seeds, **pick("batch", "report_flights", "curriculum"), **scenes},
        "evaluate": evaluate | {"blend": blend_flown(parameters.blend, curriculum)} | matrix,
    }


def worst_cell(metrics: dict[str, float]) -> dict[str, float]:
    """The figures without a cell in their name."""
    prefixes = tuple(f"{prefix}/" for prefix in PREFIX.values())
    return {name: value for name, value in metrics.items() if name.startswith(prefixes) and name.count("/") == 1}
