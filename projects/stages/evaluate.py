"""Entry point ``evaluate``: the evidence, over scenarios, noise and goals, with the filter on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from drone_cbf.controller import ControllerParams
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.matrix import Cell, cell_count, evaluate_matrix, make_flyers, worst_cell
from drone_cbf.evaluation.worst import WorstFlights
from drone_cbf.recordings.saving import writer
from drone_cbf.tracking.queries.cells import CELLS_FILE, PREFIX, logged_figures
from drone_cbf.tracking.queries.evidence import CURRICULUM_TAG
from drone_cbf.tracking.registry.versions import log_policy
from drone_cbf.tracking.runs.lineage import Parent, get_run, provides
from projects.cli.arguments import mlflow_run
from projects.pictures.evaluation import draw_evaluation
from projects.pictures.replay import replay, store_worst
from projects.running.belief import told_belief
from projects.running.run_names import scene_datasets
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import evaluation_summary, evaluation_text, verdict
from projects.running.trained_networks import load_barrier, load_policy


def load_controller(stage: Stage) -> ControllerParams:
    """Policy and, where the ancestry holds one, calibrated barrier; without it only the policy alone can fly."""
    blend = jnp.float32(stage.parameters.blend)
    if stage.parent is None or not provides(stage.parent.run_id, "barrier"):
        return ControllerParams(policy=load_policy(stage), barrier=None, margin=jnp.float32(0.0), blend=blend)
    barrier, margin = load_barrier(stage)
    return ControllerParams(policy=load_policy(stage), barrier=barrier, margin=jnp.float32(margin), blend=blend)


def work(stage: Stage) -> Outcome:
    for ending in stage.parameters.recordings:
        writer(f".{ending}")  # a missing package is told before anything flies
    controller = load_controller(stage)
    assert stage.parent is not None, "an evaluation has a parent"
    check_numbers(stage)
    origin = label(stage, stage.parent)
    if stage.parameters.replay:
        return replay(stage, controller)
    kept = WorstFlights(stage.parameters.blend)
    flyers = make_flyers(stage.system, stage.parameters, filtered=controller.barrier is not None)
    stage.recorder.begin("evaluate", cell_count(stage.parameters, len(flyers)))

    def progress(index: int, cell: Cell) -> None:
        stage.recorder.metrics(index, {})  # logged at the end, worst cells first: the UI keeps the order of logging

    cells = evaluate_matrix(stage.system, stage.parameters, controller, flyers, progress, kept.watch)
    store_worst(stage, kept)
    worst = worst_cells(cells)
    figures = worst | {name: value for cell in cells for name, value in named(cell, cell.figures).items()}
    # Also as figures of a logged model ``<curriculum>-seed<n>``.
    name = f"{origin.get('curriculum', stage.parent.stage)}-seed{origin['training_seed']}"
    told = {"training_run": stage.parent.run_id, "barrier.kind": stage.system.barrier.kind}
    told["sensor.kind"] = stage.system.sensor.kind
    told["blend"] = f"{stage.parameters.blend:g}"
    scenes, _ = next(scene_datasets(stage.parameters, stage.system))
    log_policy(stage.run, name, {**origin, **told}, worst, scenes, verdict(figures))
    log_cells(stage, cells)
    draw_evaluation(stage, controller, flyers, cells, kept.states())
    rows = [cell.row for cell in cells]
    following = (mlflow_run("register", {"run": stage.run.run_id}),) if stage.parent.stage == "safety" else ()
    belief = told_belief(stage.system.physics)
    summary = "\n\n".join(filter(None, (evaluation_summary(figures, rows), belief)))
    shown = "\n\n".join(filter(None, (evaluation_text(rows, figures), belief)))
    return Outcome(summary, shown=shown, following=following)


def check_numbers(stage: Stage) -> None:
    """Raises ConfigError where numbers of drones are given for a policy that flies alone."""
    numbers = ",".join(map(str, stage.parameters.drones))
    if numbers and stage.system.scene.drones < 2:
        raise ConfigError(
            f"drones = {numbers} needs a policy of swarms, but scene.drones = 1: name a run trained with scene.drones "
            "of at least 2 as parent_run, or leave drones out"
        )


def label(stage: Stage, parent: Parent) -> dict[str, str]:
    """Names what is measured, in params, by which MLflow groups runs, and tags, by which it finds them; returns it."""
    curriculum = get_run(parent.run_id).data.tags.get(CURRICULUM_TAG)
    origin = {"training_seed": str(parent.config.get("parameters", {}).get("seed", "unknown"))}
    origin |= {"curriculum": curriculum} if curriculum else {}
    stage.run.tag(**origin)
    stage.run.log_params(origin)
    return origin


def log_cells(stage: Stage, cells: Sequence[Cell]) -> None:
    """The table with every figure of every cell, and as metrics those that people plot."""
    filtered = any(cell.filtered for cell in cells)
    for index, cell in enumerate(cells):
        if cell.filtered is filtered:
            stage.run.log_metrics(named(cell, logged_figures(cell.figures)), step=index)
    rows = [cell.row for cell in cells]
    names = dict.fromkeys(name for row in rows for name in row)  # single drones lack the figures of swarms
    stage.run.log_table({name: [row.get(name) for row in rows] for name in names}, CELLS_FILE)


def worst_cells(cells: Sequence[Cell]) -> dict[str, float]:
    """The worst cell of every figure, with the filter on and off, by metric name."""
    split = {prefix: [cell for cell in cells if cell.filtered is state] for state, prefix in PREFIX.items()}
    worst = {prefix: worst_cell(chosen) for prefix, chosen in split.items() if chosen}
    return {f"{prefix}/{name}": value for prefix, figures in worst.items() for name, value in figures.items()}


def named(cell: Cell, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of a cell by metric name."""
    return {f"{PREFIX[cell.filtered]}/{cell.name}/{name}": value for name, value in figures.items()}
