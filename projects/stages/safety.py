"""Entry point ``safety``: policy and barrier learn jointly, through the filter, under a curriculum."""

from __future__ import annotations

import json

import numpy as np

from drone_cbf.errors import ConfigError
from drone_cbf.recorder import CompositeRecorder
from drone_cbf.reporting.figures.barriers import calibration_figure
from drone_cbf.reporting.figures.curves import monitor_curves, training_curves
from drone_cbf.tracking.queries.records import json_artifact
from drone_cbf.tracking.tags import CURRICULUM_FILE
from drone_cbf.training.curriculum.schema import Curriculum, parse_curriculum
from drone_cbf.training.settings import SafetySettings
from drone_cbf.training.stages.safety import train_safety
from projects.cli.stage_parameters import SafetyParameters
from projects.inputs.curriculum_levels import named_curriculum
from projects.pictures.training import FlightPictures
from projects.running.distributed import is_follower, text_from_first
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import report_table
from projects.running.trained_networks import load_barrier, load_policy

CURVES = {
    "Loss": ("loss/total", "loss/goal", "loss/cbf_value", "loss/cbf_hdot"),
    "Training flights [fraction]": ("train/success_rate", "train/collision_rate"),
    "Gradient norms": ("grad_norm/policy", "grad_norm/cbf"),
    "Filter [fraction of steps]": (
        *("filter/intervention_rate", "filter/relax_rate", "filter/fallback_rate", "filter/unavoidable_rate"),
    ),
    "Curriculum: observation noise [m]": ("curriculum/noise",),
    "Curriculum: blend, adaptive scales": (
        *("curriculum/blend", "adaptive/blend_scale", "adaptive/learning_rate_scale", "adaptive/penalty_scale"),
    ),
}


def curriculum_in_force(stage: Stage) -> Curriculum:
    """The curriculum that a resumed run has stored: its file may have changed since."""
    if is_follower():
        return parse_curriculum(json.loads(text_from_first(str)), "the curriculum of process 0")
    found = _read_curriculum(stage)
    text_from_first(found.model_dump_json)
    return found


def _read_curriculum(stage: Stage) -> Curriculum:
    stored = json_artifact(stage.run.run_id, CURRICULUM_FILE)
    if stored is None:
        return named_curriculum(stage.parameters)
    return parse_curriculum(stored, f"{CURRICULUM_FILE} of run {stage.run.run_id}")


def check_training(stage: Stage, curriculum: Curriculum) -> None:
    """Refuses a parent that was trained with other settings than the curriculum begins with."""
    for name, wanted in curriculum.trained_with.items():
        group, field = name.split(".")
        found = getattr(getattr(stage.system, group), field)
        if found != wanted:
            raise ConfigError(
                f"curriculum {curriculum.name} begins with networks trained with {name} = {wanted}, but the parent run "
                f"has {name} = {found}; train them so: mlflow run . -P curriculum={curriculum.name}"
            )


def settings_of(parameters: SafetyParameters, curriculum: Curriculum) -> SafetySettings:
    """The parameters with the curriculum in place of its name, and with what the curriculum says of them.

    Raises:
        ConfigError: the curriculum and the command line set the same to different values.
    """
    own = {name: getattr(parameters, name) for name in SafetySettings.model_fields} | {"curriculum": curriculum}
    name, asked = "barrier_task_gradient", curriculum.learning.barrier_task_gradient
    if asked is not None:
        if own[name] not in (asked, SafetySettings.model_fields[name].default):
            raise ConfigError(
                f"{name} = {own[name]} differs from the {asked} of curriculum {curriculum.name}; leave one of them out"
            )
        own[name] = asked
    return SafetySettings(**own)


def work(stage: Stage) -> Outcome:
    curriculum = curriculum_in_force(stage)
    check_training(stage, curriculum)
    settings = settings_of(stage.parameters, curriculum)
    stage.run.log_text(curriculum.model_dump_json(indent=1), CURRICULUM_FILE)
    stage.run.tag(curriculum=curriculum.name)
    barrier, margin = load_barrier(stage)
    recorder = CompositeRecorder((stage.recorder, FlightPictures(stage.run, stage.system)))
    result = train_safety(stage.system, settings, load_policy(stage), barrier, margin, recorder, stage.programs)
    figures = {**result.report, "margin": result.margin}
    stage.run.log_metrics({f"final/{name}": value for name, value in figures.items()})
    stage.draw("training.png", lambda: training_curves(stage.history.rows, CURVES))
    stage.draw("monitor.png", lambda: monitor_curves(stage.history.rows, curriculum.stages))
    true, predicted = np.asarray(result.comparison.analytic), np.asarray(result.comparison.neural)
    stage.draw("calibration.png", lambda: calibration_figure(true, predicted, result.margin))
    title = f"Policy behind the neural barrier, curriculum {curriculum.name}"
    return Outcome(report_table(title, figures), provides=("policy", "barrier"))
