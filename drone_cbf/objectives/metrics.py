"""Metrics of flights: success, collision, violation, and the work of the filter; of one flight and of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.truth import make_true_barrier, true_barrier_rate
from drone_cbf.config import SystemConfig
from drone_cbf.controller import Decision
from drone_cbf.objectives.clearance import path, swept_clearances, velocities
from drone_cbf.objectives.losses import final_second
from drone_cbf.objectives.swarm_metrics import SwarmMetrics, swarm_metrics, swarm_report
from drone_cbf.physics.drone import DroneState
from drone_cbf.rollout import Trajectory
from drone_cbf.safety.records import SLACK_TOLERANCE, Status
from drone_cbf.scenes.scene import Scene

GOAL_SPEED = 0.2  # Largest speed at which a drone is at the goal [m/s]
VIOLATION_TOLERANCE = 0.01  # Largest violation of the CBF condition that is not counted as one [m/s]
FILTER_FIGURES = {
    "relax_rate": "relaxed",
    "relax_mean": "relax_mean",
    "intervention_rate": "intervened",
    "fallback_rate": "fallback",
    "no_authority_rate": "no_authority",
    "unavoidable_rate": "unavoidable",
}
"""Metric name -> field of :class:`FlightMetrics` and of :func:`filter_activity`."""


@struct.dataclass
class FlightMetrics:
    """Metrics of one flight."""

    success: Bool[Array, ""]  # At the goal during the whole final second, without a collision
    collision: Bool[Array, ""]  # The hull touched a surface, at a sample or in between
    final_distance: Scalar  # Largest distance to the goal during the final second [m]
    final_speed: Scalar  # At the end [m/s]
    time_to_goal: Scalar  # Time until the drone is at the goal and stays there [s]; NaN if it does not
    mean_speed: Scalar  # Path length over the time until the goal (or the end) [m/s]
    smallest_clearance: Scalar  # Hull to surface [m]
    effort: Scalar  # Time integral of the squared command [m^2/s^3]
    violation: Float[Array, "t"]
    """(-(dh/dt + alpha h))+ of the analytic barrier where the command flown begins to act [m/s]: at the acting point,
    predicted from the true state through delay and lag (:func:`true_barrier_rate`)."""
    true_barrier: Float[Array, "t"]  # Analytic h there [m]
    relaxed: Float[Array, ""]  # Fraction of steps with slack above 1e-4
    relax_mean: Scalar  # Mean slack [m/s]
    intervened: Float[Array, ""]  # Fraction of steps on which the filter changed the command
    fallback: Float[Array, ""]  # Fraction of steps flown by the braking fallback
    no_authority: Float[Array, ""]  # Fraction of steps on which the row could not be enforced
    unavoidable: Float[Array, ""]
    """Fraction of steps on which something was on the way to where the command acts; 0 for labelled points."""
    swarm: SwarmMetrics | None = None  # None for a drone alone


def make_flight_metrics(system: SystemConfig) -> Callable[[Trajectory, Scene], FlightMetrics]:
    """Function from one flight to its metrics."""
    barrier = make_true_barrier(system)
    dt = system.physics.time_step

    def metrics(trajectory: Trajectory, scene: Scene) -> FlightMetrics:
        decisions = trajectory.decisions
        horizon = decisions.slack.shape[0]

        def violation_at(state: DroneState, command: Vector, wind: Vector, index: Array) -> tuple[Scalar, Scalar]:
            h, rate = true_barrier_rate(barrier, state, command, wind, scene, index * dt, system)
            return jnp.maximum(-(rate + system.barrier.class_k_gain * h), 0.0), h

        flown = (trajectory.states, decisions.command, trajectory.wind, jnp.arange(horizon))
        violation, true_barrier = jax.vmap(violation_at)(*flown)
        clearance = jnp.min(swept_clearances(trajectory, scene, system.physics))
        return FlightMetrics(
            **_way_to_goal(trajectory, scene, system, clearance < 0.0),
            **filter_activity(decisions),
            collision=clearance < 0.0,
            smallest_clearance=clearance,
            effort=dt * jnp.sum(decisions.command**2),
            violation=violation,
            true_barrier=true_barrier,
            swarm=swarm_metrics(trajectory, scene, system, clearance < 0.0),
        )

    return metrics


def filter_activity(decisions: Decision) -> dict[str, Scalar]:
    """The work of the filter as means over all ``decisions``; names and units as in :class:`FlightMetrics`."""
    return {
        "relaxed": jnp.mean(decisions.slack > SLACK_TOLERANCE),
        "relax_mean": jnp.mean(decisions.slack),
        "intervened": jnp.mean((decisions.status == Status.INTERVENED) | (decisions.status == Status.RELAXED)),
        # A blind sensor is what the controller falls back from as well: it brakes without a certificate.
        "fallback": jnp.mean((decisions.status == Status.FALLBACK) | (decisions.status == Status.NO_POINTS)),
        "no_authority": jnp.mean(decisions.status == Status.NO_AUTHORITY),
        "unavoidable": jnp.mean(decisions.status == Status.UNAVOIDABLE),
    }


@struct.dataclass
class Arrival:
    """How one flight reaches its goal, at the samples before each step and at the end."""

    distance: Float[Array, "points"]  # To the goal [m]
    speed: Float[Array, "points"]  # [m/s]
    at_goal: Bool[Array, "points"]  # Near it and slow
    success: Bool[Array, ""]  # At the goal during the whole final second, without a collision


def arrival(trajectory: Trajectory, scene: Scene, system: SystemConfig, collided: Bool[Array, ""]) -> Arrival:
    """The only definition of success."""
    distance = jnp.linalg.norm(path(trajectory) - scene.goal, axis=-1)
    speed = jnp.linalg.norm(velocities(trajectory), axis=-1)
    at_goal = (distance < system.objective.goal_radius) & (speed < GOAL_SPEED)
    success = jnp.all(final_second(at_goal, system)) & ~collided
    return Arrival(distance=distance, speed=speed, at_goal=at_goal, success=success)


def _way_to_goal(trajectory: Trajectory, scene: Scene, system: SystemConfig, collided: Array) -> dict[str, Array]:
    """Metrics of reaching the goal and staying there."""
    dt, points = system.physics.time_step, path(trajectory)
    way = arrival(trajectory, scene, system, collided)
    stays = jnp.flip(jnp.cumprod(jnp.flip(way.at_goal))).astype(bool)
    arrived = jnp.argmax(stays)
    under_way = jnp.where(stays[-1], arrived, points.shape[0] - 1)
    lengths = jnp.linalg.norm(jnp.diff(points, axis=0), axis=-1)
    flown = jnp.sum(jnp.where(jnp.arange(lengths.shape[0]) < under_way, lengths, 0.0))
    return {
        "success": way.success,
        "final_distance": jnp.max(final_second(way.distance, system)),
        "final_speed": way.speed[-1],
        "time_to_goal": jnp.where(stays[-1], arrived * dt, jnp.nan),
        "mean_speed": flown / jnp.maximum(under_way * dt, dt),
    }


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
    """Metrics of a batch of flights (leading axis), by name; ``time_to_goal`` [s] of those that reached it, else NaN.

    Distances in metres, speeds in m/s.
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
        **swarm_report(flights.swarm),
    }


def filter_figures(trajectories: Trajectory) -> dict[str, Scalar]:
    """The work of the filter in a training batch (DESIGN 6)."""
    activity = filter_activity(jax.lax.stop_gradient(trajectories.decisions))
    return {f"filter/{name}": activity[field] for name, field in FILTER_FIGURES.items()}
