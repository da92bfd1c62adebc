"""Entry point ``pretrain_cbf``: the neural barrier learns value and gradient of the analytic one, and is calibrated."""

from __future__ import annotations

import numpy as np

from drone_cbf.api.flight_records import has_points
from drone_cbf.reporting.figures.barriers import calibration_figure, strata_figure
from drone_cbf.reporting.figures.curves import training_curves
from drone_cbf.training.stages.pretraining import pretrain_barrier
from projects.pictures.scans import draw_scan_slice
from projects.running.stage_runner import Outcome, Stage
from projects.running.summaries import report_table, strata_table
from projects.running.trained_networks import load_initial_barrier, load_policy

CURVES = {
    "Loss": ("loss/total", "loss/cbf_value", "loss/cbf_gradient"),
    "Validation: error near the boundary [m]": ("validation/boundary_error_mean", "validation/boundary_error_p99"),
    "Validation: cosine between the gradients": ("validation/gradient_cosine", "validation/gradient_cosine_p01"),
    "Gradient norm": ("grad_norm/cbf",),
}


def work(stage: Stage) -> Outcome:
    policy, init_run = load_policy(stage), stage.parameters.init_run
    if init_run:
        stage.run.tag(init_run=init_run)
    start = load_initial_barrier(stage, init_run) if init_run else None
    result = pretrain_barrier(stage.system, stage.parameters, policy, stage.recorder, start, stage.programs)
    # Figures of the flown states by name, of the sampled ones by stratum and name.
    strata = {f"{stratum}/{name}": value for stratum, report in result.strata.items() for name, value in report.items()}
    stage.run.log_metrics({f"final/{name}": value for name, value in (result.report | strata).items()})
    stage.draw("training.png", lambda: training_curves(stage.history.rows, CURVES))
    true, predicted = np.asarray(result.comparison.analytic), np.asarray(result.comparison.neural)
    stage.draw("calibration.png", lambda: calibration_figure(true, predicted, result.margin))
    stage.draw("strata.png", lambda: strata_figure(result.strata))
    if has_points(stage.system):
        scenes, seed = stage.parameters.scenes, stage.parameters.seed
        stage.draw("scan_slices.png", lambda: draw_scan_slice(stage.system, result.barrier, scenes, seed))
    flown = report_table("Neural barrier against the analytic one", result.report)
    sampled = strata_table("Held-out sampled states, by stratum", result.strata)
    return Outcome(f"{flown}\n\n{sampled}", provides=("barrier",))
