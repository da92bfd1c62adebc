"""Metrics of a batch of flights."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.clearance import swept_clearances
from drone_cbf.objectives.metrics import VIOLATION_TOLERANCE, FlightMetrics, arrival, filter_activity
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory

FILTER_FIGURES = {
    "relax_rate": "relaxed",
    "relax_mean": "relax_mean",
    "intervention_rate": "intervened",
    "fallback_rate": "fallback",
    "no_authority_rate": "no_authority",
}
"""Metric name -> field of :class:`FlightMetrics` and of :func:`filter_activity`."""


def quick_figures(trajectories: Trajectory, scenes: Scene, system: SystemConfig) -> dict[str, Scalar]:
    """Success rate, collision rate and final distance of a training batch, cheap enough for every update."""

    def one(trajectory: Trajectory, scene: Scene) -> dict[str, Array]:
        collided = jnp.min(swept_clearances(trajectory, scene, system.physics)) < 0.0
        way = arrival(trajectory, scene, system, collided)
        return {
            "train/success_rate": way.success,
            "train/collision_rate": collided,
            "train/final_distance": way.distance[-1],
        }

    single = jax.vmap(one)(*jax.lax.stop_gradient((trajectories, scenes)))
    return jax.tree.map(lambda x: jnp.mean(x.astype(jnp.float32)), single)


def flight_report(flights: FlightMetrics) -> dict[str, float]:
    """Metrics of a batch of flights (leading axis), by name.

    Distances in metres, speeds in m/s, times in s; ``time_to_goal`` is over the flights that reached the goal, and
    NaN if none did.
    """
    flights = jax.tree.map(np.asarray, flights)
    reached = flights.time_to_goal[np.isfinite(flights.time_to_goal)]
    return {
        "success_rate": float(flights.success.mean()),
        "collision_rate": float(flights.collision.mean()),
        "final_distance_mean": float(flights.final_distance.mean()),
        "final_distance_p95": float(np.quantile(flights.final_distance, 0.95)),
        "final_distance_max": float(flights.final_distance.max()),
        "final_speed_mean": float(flights.final_speed.mean()),
        "time_to_goal": float(reached.mean()) if reached.size else float("nan"),
        "mean_speed": float(flights.mean_speed.mean()),
        "effort": float(flights.effort.mean()),
        "smallest_clearance": float(flights.smallest_clearance.min()),
        "max_violation": float(flights.violation.max()),
        "violation_p999": float(np.quantile(flights.violation, 0.999)),
        "violation_rate": float((flights.violation > VIOLATION_TOLERANCE).mean()),
        **{name: float(getattr(flights, field).mean()) for name, field in FILTER_FIGURES.items()},
    }


def filter_figures(trajectories: Trajectory) -> dict[str, Scalar]:
    """The work of the filter in a training batch (DESIGN 6)."""
    activity = filter_activity(jax.lax.stop_gradient(trajectories.decisions))
    return {f"filter/{name}": activity[field] for name, field in FILTER_FIGURES.items()}
