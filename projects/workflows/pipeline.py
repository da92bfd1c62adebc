"""Entry point ``pipeline``: the four stages as children of one run; stops at the first failure and says where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drone_cbf.tracking.queries.cells import PREFIX, evaluation_figures
from drone_cbf.tracking.runs.lineage import children, get_run
from drone_cbf.tracking.runs.nesting import ChildRun, StageFailed, run_child
from drone_cbf.tracking.runs.resuming import latest_progress
from drone_cbf.tracking.tags import STAGE_TAG
from projects.cli.arguments import as_text, mlflow_run
from projects.cli.stage_parameters import PIPELINE_SIZES, PipelineParameters
from projects.inputs.curriculum_files import load_curriculum
from projects.inputs.curriculum_levels import blend_flown
from projects.running.stage_runner import ROOT, Outcome, Stage
from projects.running.summaries import lineage_table, worst_cell_summary
from projects.running.worker import prepare_for_children


def work(stage: Stage) -> Outcome:
    # First of all: a wrong curriculum must not cost the training of two stages.
    planned = stage_parameters(stage.parameters, stage.given_system)
    prepare_for_children()
    done: list[ChildRun] = []
    for entry, parameters in planned.items():
        print(f"pipeline: {entry} starts", flush=True)
        if done:
            parameters = {**parameters, "parent_run": done[-1].run_id}
        try:
            done.append(run_child(stage.run, ROOT, entry, parameters))
        except (KeyboardInterrupt, StageFailed) as error:
            started = [run for run in children(get_run(stage.run.run_id)) if run.data.tags.get(STAGE_TAG) == entry]
            error.add_note(remaining(planned, done, started[-1].info.run_id if started else None))
            raise
    stage.run.log_metrics(worst_cell(done[-1].metrics))
    worst = worst_cell_summary(evaluation_figures(get_run(done[-1].run_id)))
    summary = f"{worst}\n\n{lineage_table(done, stage.run.experiment_id)}"
    return Outcome(summary, following=(mlflow_run("register", {"run": stage.run.run_id}),))


def remaining(planned: Mapping[str, Mapping[str, str]], done: Sequence[ChildRun], unfinished: str | None) -> str:
    """The commands that take an interrupted pipeline to its end; ``unfinished``: run ID of its last child, if any."""
    lines = ["The finished stages are kept. To go on, one after the other:"]
    parent = done[-1].run_id if done else ""
    for entry, parameters in list(planned.items())[len(done) :]:
        resumed = unfinished if unfinished and latest_progress(unfinished) else None
        given = {**parameters, "parent_run": parent} if parent else parameters
        lines.append(f"  {mlflow_run(entry, {'resume_run': resumed} if resumed else given)}")
        parent, unfinished = resumed or f"<{entry} run>", None
    return "\n".join(lines)


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
    first = {**system, **pick("seed", "batch", "horizon", "report_flights"), "steps": given["efficiency_steps"]}
    if rate := changed("efficiency_learning_rate"):
        first["learning_rate"] = rate["efficiency_learning_rate"]
    return {
        "efficiency": first | scenes,
        "pretrain_cbf": {**pick("seed", "horizon", "report_flights"), "steps": given["pretrain_steps"], **scenes},
        "safety": {**pick("seed", "batch", "report_flights", "curriculum"), **scenes},
        "evaluate": evaluate | {"blend": blend_flown(parameters.blend, curriculum)} | matrix,
    }


def worst_cell(metrics: dict[str, float]) -> dict[str, float]:
    """The figures without a cell in their name."""
    prefixes = tuple(f"{prefix}/" for prefix in PREFIX.values())
    return {name: value for name, value in metrics.items() if name.startswith(prefixes) and name.count("/") == 1}
