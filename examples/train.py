"""Train a policy and its safety filter from Python, without the command line and without MLflow.

Three stages: a policy that flies to goals (differentiable physics), a neural barrier that learns where braking is still
possible, and both together through the safety filter. The settings are small: three minutes of processor time, and the
policy reaches its goal in 97 % of the filtered flights. The settings' own defaults are those of the results page.

    python examples/train.py
"""

from __future__ import annotations

import pandas

import drone_cbf


def train(
    system: drone_cbf.SystemConfig, *, steps: int = 40, batch: int = 32, horizon: int = 100, flights: int = 64
) -> drone_cbf.ControllerParams:
    """The three stages in a row; every stage reports to a recorder, here one that keeps everything in memory."""
    recorder = drone_cbf.ListRecorder()
    common = {"batch": batch, "report_flights": flights}

    print("1. policy without a filter ...")
    settings = drone_cbf.EfficiencySettings(steps=steps, horizon=horizon, **common)
    efficiency = drone_cbf.train_efficiency(system, settings, recorder)
    report, updates = efficiency.report, len(recorder.rows)
    print(f"   {updates} updates: success {report['success_rate']:.0%}, collisions {report['collision_rate']:.0%}")

    print("2. neural barrier ...")
    settings = drone_cbf.PretrainingSettings(steps=10 * steps, horizon=horizon, report_flights=flights)
    barrier = drone_cbf.pretrain_barrier(system, settings, efficiency.policy, recorder)
    print(f"   calibration margin {barrier.margin:.3f} m")

    print("3. both through the filter ...")
    stages = [{"name": "joint", "steps": max(1, steps // 4), "noise": 0.02, "horizon": horizon}]
    curriculum = drone_cbf.parse_curriculum({"name": "example", "stages": stages}, "examples/train.py")
    settings = drone_cbf.SafetySettings(curriculum=curriculum, **common)
    safe = drone_cbf.train_safety(system, settings, efficiency.policy, barrier.barrier, barrier.margin, recorder)
    return drone_cbf.make_controller(safe.policy, safe.barrier, safe.margin)


def evaluate(
    system: drone_cbf.SystemConfig, controller: drone_cbf.ControllerParams, *, horizon: int = 100, flights: int = 64
) -> pandas.DataFrame:
    """The same scenes with the filter on and off."""
    settings = drone_cbf.EvaluationSettings(
        scenarios=("fixed_ring", "random_cloud"),  # the forest takes longer flights
        noise=(0.02,),
        goals=("random",),
        rollouts=flights,
        unfiltered_rollouts=flights,
        horizon=horizon,
    )
    cells = drone_cbf.evaluate(system, settings, controller)
    return cells[["scene", "filtered", "success_rate", "collision_rate", "max_violation"]]


if __name__ == "__main__":
    system = drone_cbf.SystemConfig()
    print(evaluate(system, train(system)).to_string(index=False))
