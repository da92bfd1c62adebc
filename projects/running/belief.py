"""The double integrator that the filter takes the drone for: fitted once, stored with every run that flies by it."""

from __future__ import annotations

from drone_cbf.config import PhysicsConfig
from drone_cbf.tracking.runs.stage_run import StageRun


def fitted(physics: PhysicsConfig) -> dict[str, str]:
    """Lags, delay [s] and held-out error [m/s] as params; empty for a model that needs no fit."""
    from drone_cbf.physics.dynamics import make_dynamics  # after JAX is configured

    if physics.model in ("point_mass", "linear", "double_integrator"):
        return {}
    fit = make_dynamics(physics).effective
    figures = {"level_lag": fit.level_lag, "vertical_lag": fit.vertical_lag, "delay": fit.delay, "error": fit.error}
    return {f"effective.{name}": f"{value:.4g}" for name, value in figures.items()}


def store_belief(run: StageRun, physics: PhysicsConfig) -> None:
    """Stores what was fitted as params of the run."""
    if values := fitted(physics):
        run.log_params(values)


def told_belief(physics: PhysicsConfig) -> str:
    """What was fitted as a sentence; empty for a model that needs no fit."""
    if not (values := fitted(physics)):
        return ""
    level, vertical, delay, error = values.values()
    return (
        f"To the filter the {physics.model} is a double integrator with a lag of {level} s (vertically {vertical} s) "
        f"and a delay of {delay} s; its velocity is off by at most {error} m/s along an axis in 99 % of held-out steps."
    )
