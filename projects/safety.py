"""Entry point ``safety``: policy and barrier learn jointly, through the filter, under a curriculum."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from drone_cbf.errors import ConfigError
from drone_cbf.reporting.curves import calibration_figure, training_curves
from drone_cbf.reporting.monitor_curves import WatchedStage, monitor_curves
from drone_cbf.tracking.histories import artifact
from drone_cbf.tracking.recorder import Together
from drone_cbf.tracking.tags import CURRICULUM_FILE
from drone_cbf.training.curriculum import Curriculum, parse_curriculum
from drone_cbf.training.safety import train_safety
from drone_cbf.training.settings import SafetySettings
from projects.curriculum_levels import LEVELS, curriculum_of
from projects.flight_pictures import FlightPictures
from projects.parameters import SafetyParameters
from projects.parts import load_barrier, load_policy
from projects.running import EntryPoint, Outcome, Stage, run_stage
from projects.summaries import report_table


def named_curriculum(parameters: SafetyParameters) -> Curriculum:
    """The curriculum that the parameters name, with the levels that they set."""
    return curriculum_of(parameters.curriculum, {name: getattr(parameters, name) for name in LEVELS})


ENTRY = EntryPoint(
    "safety",
    SafetyParameters,
    parents=("pretrain_cbf", "safety"),
    implied=lambda parameters: named_curriculum(parameters).system_groups,
)
CURVES = {
    "Loss": ("loss/total", "loss/goal", "loss/cbf_value", "loss/cbf_hdot"),
    "Flights": ("train/success_rate", "train/collision_rate"),
    "Gradient norms": ("grad_norm/policy", "grad_norm/cbf"),
    "Filter": ("filter/intervention_rate", "filter/relax_rate", "filter/fallback_rate"),
    "Curriculum": ("curriculum/blend", "curriculum/noise"),
}


def curriculum_in_force(stage: Stage) -> Curriculum:
    """The curriculum that the run has stored, if it is gone on with: its file may have changed since."""
    stored = artifact(stage.run.run_id, CURRICULUM_FILE)
    if stored is None:
        return named_curriculum(stage.parameters)
    return parse_curriculum(json.loads(stored), f"{CURRICULUM_FILE} of run {stage.run.run_id}")


def settings_of(parameters: SafetyParameters, curriculum: Curriculum) -> SafetySettings:
    """The parameters with the curriculum in place of its name, and with what the curriculum says of them.

    Raises:
        ConfigError: the curriculum and the command line set the same to different values.
    """
    own = {name: getattr(parameters, name) for name in SafetySettings.model_fields if name != "curriculum"}
    name, asked = "barrier_task_gradient", curriculum.learning.barrier_task_gradient
    if asked is not None:
        if own[name] not in (asked, SafetySettings.model_fields[name].default):
            raise ConfigError(
                f"{name} = {own[name]} differs from the {asked} of curriculum {curriculum.name}; leave one of them out"
            )
        own[name] = asked
    return SafetySettings(curriculum=curriculum, **own)


def work(stage: Stage) -> Outcome:
    curriculum = curriculum_in_force(stage)
    settings = settings_of(stage.parameters, curriculum)
    stage.run.log_text(curriculum.model_dump_json(indent=1), CURRICULUM_FILE)
    stage.run.tag(curriculum=curriculum.name)
    barrier = load_barrier(stage)
    recorder = Together((stage.recorder, FlightPictures(stage.run, stage.system)))
    result = train_safety(stage.system, settings, load_policy(stage), barrier.params, barrier.margin, recorder)
    figures = {**result.report, "margin": result.margin}
    stage.run.log_metrics({f"final/{name}": value for name, value in figures.items()})
    stage.draw("training.png", lambda: training_curves(stage.history.rows, CURVES))
    asked = [WatchedStage(part.name, part.success_threshold, part.violation_threshold) for part in curriculum.stages]
    stage.draw("monitor.png", lambda: monitor_curves(stage.history.rows, asked))
    true, predicted = np.asarray(result.comparison.analytic), np.asarray(result.comparison.neural)
    stage.draw("calibration.png", lambda: calibration_figure(true, predicted, result.margin))
    title = f"Policy behind the neural barrier, curriculum {curriculum.name}"
    return Outcome(report_table(title, figures), provides=("policy", "barrier"))


def main(argv: Sequence[str] | None = None) -> int:
    return run_stage(ENTRY, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
