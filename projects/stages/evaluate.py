"""Entry point ``evaluate``: the evidence, over scenarios, noise and goals, with the filter on and off."""

from __future__ import annotations

import jax.numpy as jnp

from drone_cbf.evaluation.matrix import Cell, cell_count, evaluate_matrix, make_flyers, worst_cell
from drone_cbf.evaluation.worst import WorstFlights
from drone_cbf.rollout import ControllerParams
from projects.cli.arguments import mlflow_run
from projects.pictures.evaluation import draw_evaluation
from projects.pictures.replay import replay, store_worst
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import evaluation_summary
from projects.running.terminal import evaluation_text
from projects.running.trained_networks import has_barrier, load_barrier, load_policy

PREFIX = {True: "eval", False: "eval_unfiltered"}
"""Metric names by whether the filter was on."""


def load_controller(stage: Stage) -> ControllerParams:
    """Policy and, where the ancestry holds one, calibrated barrier; without it only the policy alone can fly."""
    blend = jnp.float32(stage.parameters.blend)
    if not has_barrier(stage):
        return ControllerParams(policy=load_policy(stage), barrier=None, margin=jnp.float32(0.0), blend=blend)
    barrier = load_barrier(stage)
    margin = jnp.float32(barrier.margin)
    return ControllerParams(policy=load_policy(stage), barrier=barrier.params, margin=margin, blend=blend)


def work(stage: Stage) -> Outcome:
    controller = load_controller(stage)
    if stage.parameters.replay:
        return replay(stage, controller)
    kept = WorstFlights(stage.parameters.blend)

    def progress(index: int, cell: Cell) -> None:
        prefix = f"{PREFIX[cell.filtered]}/{cell.name}"
        stage.recorder.metrics(index, {f"{prefix}/{name}": value for name, value in cell.figures.items()})

    flyers = make_flyers(stage.system, stage.parameters, filtered=controller.barrier is not None)
    stage.recorder.begin("evaluate", cell_count(stage.parameters, len(flyers)))
    cells = evaluate_matrix(stage.system, stage.parameters, controller, flyers, progress, kept.watch)
    store_worst(stage, kept)
    worst = {}
    for filtered, prefix in PREFIX.items():
        chosen = [cell for cell in cells if cell.filtered is filtered]
        if chosen:
            worst[prefix] = worst_cell(chosen)
            stage.run.log_metrics({f"{prefix}/{name}": value for name, value in worst[prefix].items()})
    rows = [cell_row(cell) for cell in cells]
    stage.run.log_table({name: [row[name] for row in rows] for name in rows[0]}, "tables/cells.json")
    draw_evaluation(stage, controller, flyers, cells)
    figures = {f"{prefix}/{name}": value for prefix, named in worst.items() for name, value in named.items()}
    following = (mlflow_run("register", {"run": stage.run.run_id}),) if stage.parent.stage == "safety" else ()
    return Outcome(evaluation_summary(worst, rows), shown=evaluation_text(rows, figures), following=following)


def cell_row(cell: Cell) -> dict[str, object]:
    """One line of the table of cells."""
    place = {"scene": cell.scenario, "noise": cell.noise, "goals": cell.goals, "filtered": cell.filtered}
    return {**place, **cell.figures}
