"""From figures of single flights to figures of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.clearance import path, swept_clearances, velocities
from drone_cbf.objectives.losses import final_second
from drone_cbf.objectives.metrics import GOAL_RADIUS, GOAL_SPEED, VIOLATION_TOLERANCE, FlightMetrics
from drone_cbf.physics.scenes import Scene
from drone_cbf.rollout import Trajectory
from drone_cbf.safety.records import SLACK_TOLERANCE, Status


def quick_figures(trajectories: Trajectory, scenes: Scene, system: SystemConfig) -> dict[str, Scalar]:
    """Success, collision rate and final distance of a training batch: cheap enough for every update."""

    def one(trajectory: Trajectory, scene: Scene) -> dict[str, Array]:
        distance = jnp.linalg.norm(path(trajectory) - scene.goal, axis=-1)
        speed = jnp.linalg.norm(velocities(trajectory), axis=-1)
        collided = jnp.min(swept_clearances(trajectory, scene, system.physics)) < 0.0
        there = jnp.all(final_second((distance < GOAL_RADIUS) & (speed < GOAL_SPEED), system))
        return {
            "train/success_rate": there & ~collided,
            "train/collision_rate": collided,
            "train/final_distance": distance[-1],
        }

    single = jax.vmap(one)(*jax.lax.stop_gradient((trajectories, scenes)))
    return jax.tree.map(lambda x: jnp.mean(x.astype(jnp.float32)), single)


def flight_report(flights: FlightMetrics) -> dict[str, float]:
    """Figures of a batch of flights (leading axis), by metric name.

    Distances in metres, speeds in m/s, times in s; ``time_to_goal`` is over the flights that reached the goal, and
    NaN when none did.
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
        "relax_rate": float(flights.relaxed.mean()),
        "relax_mean": float(flights.relax_mean.mean()),
        "intervention_rate": float(flights.intervened.mean()),
        "fallback_rate": float(flights.fallback.mean()),
        "no_authority_rate": float(flights.no_authority.mean()),
    }


def filter_figures(trajectories: Trajectory) -> dict[str, Scalar]:
    """What the filter had to do in a training batch (DESIGN 6)."""
    decisions = jax.lax.stop_gradient(trajectories.decisions)
    acted = (decisions.status == Status.INTERVENED) | (decisions.status == Status.RELAXED)
    return {
        "filter/relax_rate": jnp.mean(decisions.slack > SLACK_TOLERANCE),
        "filter/relax_mean": jnp.mean(decisions.slack),
        "filter/intervention_rate": jnp.mean(acted),
        "filter/fallback_rate": jnp.mean(decisions.status == Status.FALLBACK),
        "filter/no_authority_rate": jnp.mean(decisions.status == Status.NO_AUTHORITY),
    }
