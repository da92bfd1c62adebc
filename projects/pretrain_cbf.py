"""Entry point ``pretrain_cbf``: the neural barrier learns value and gradient of the analytic one, and is calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drone_cbf.reporting.curves import calibration_figure, training_curves
from drone_cbf.training.pretraining import pretrain_barrier
from projects.parameters import PretrainParameters
from projects.parts import load_policy
from projects.running import EntryPoint, Outcome, Stage, run_stage
from projects.summaries import report_table

ENTRY = EntryPoint("pretrain_cbf", PretrainParameters, parents=("efficiency",))
CURVES = {
    "Loss": ("loss/total", "loss/cbf_value", "loss/cbf_gradient"),
    "Validation: error near the boundary [m]": ("validation/boundary_error_mean", "validation/boundary_error_p99"),
    "Validation: gradient": ("validation/gradient_cosine", "validation/gradient_cosine_p01"),
    "Gradient norm": ("grad_norm/cbf",),
}


def work(stage: Stage) -> Outcome:
    policy = load_policy(stage)
    result = pretrain_barrier(stage.system, stage.parameters, policy, stage.recorder)
    stage.run.log_metrics({f"final/{name}": value for name, value in result.report.items()})
    stage.draw("training.png", lambda: training_curves(stage.history.rows, CURVES))
    true, predicted = np.asarray(result.comparison.analytic), np.asarray(result.comparison.neural)
    stage.draw("calibration.png", lambda: calibration_figure(true, predicted, result.margin))
    return Outcome(report_table("Neural barrier against the analytic one", result.report), provides=("barrier",))


def main(argv: Sequence[str] | None = None) -> int:
    return run_stage(ENTRY, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
