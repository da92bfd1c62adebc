"""Entry point ``efficiency``: a policy that flies, without a safety filter."""

from __future__ import annotations

from drone_cbf.reporting.figures.curves import training_curves
from drone_cbf.training.stages.efficiency import train_efficiency
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import report_table

CURVES = {
    "Loss": ("loss/total", "loss/goal", "loss/final", "loss/clearance"),
    "Training flights [fraction]": ("train/success_rate", "train/collision_rate"),
    "Gradient norm": ("grad_norm/policy",),
}


def work(stage: Stage) -> Outcome:
    result = train_efficiency(stage.system, stage.parameters, stage.recorder, stage.programs)
    stage.run.log_metrics({f"final/{name}": value for name, value in result.report.items()})
    stage.draw("training.png", lambda: training_curves(stage.history.rows, CURVES))
    return Outcome(report_table("Policy without filter, on fresh scenes", result.report), provides=("policy",))
