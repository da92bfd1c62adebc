"""What is measured of a drone in a swarm, besides: GCBF+'s figures, the least gap, and why it did not arrive."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool

from drone_cbf.arrays import Scalar
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.clearance import approach, path
from drone_cbf.objectives.losses import final_second
from drone_cbf.rollout import Trajectory
from drone_cbf.scenes.scene import Scene

BLOCKED = 0.1  # A drone that nears its goal more slowly than this part of the cruise speed is blocked, else it is late
SMALLER_IS_WORSE = frozenset({"gcbf_safe_rate", "gcbf_reach_rate", "gcbf_success_rate", "smallest_separation"})
"""Figures of :func:`swarm_report` of which less is worse."""


@struct.dataclass
class SwarmMetrics:
    """Of one flight in a swarm."""

    safe: Bool[Array, ""]  # GCBF+: touches neither an obstacle nor another drone before any step
    reached: Bool[Array, ""]  # GCBF+: was within two radii of the goal at some time
    separation: Scalar  # Least gap to the hull of another drone, at a sample or in between [m]
    blocked: Bool[Array, ""]  # Neither collided nor at the goal at the end, and no nearer to it than a second before
    late: Bool[Array, ""]  # Neither collided nor at the goal at the end, but on its way


def swarm_metrics(
    trajectory: Trajectory, scene: Scene, system: SystemConfig, collided: Bool[Array, ""]
) -> SwarmMetrics | None:
    """The metrics of one flight; None for a drone alone. ``collided``: at a sample or in between."""
    if trajectory.others is None:
        return None
    distance = jnp.linalg.norm(path(trajectory) - scene.goal, axis=-1)
    final = final_second(distance, system)
    duration = (final.shape[0] - 1) * system.physics.time_step
    away = (final[-1] > system.objective.goal_radius) & ~collided
    approaching = (final[0] - final[-1]) / duration > BLOCKED * system.objective.max_speed
    return SwarmMetrics(
        safe=jnp.min(approach(trajectory, scene, system.physics).clearance) >= 0.0,
        reached=jnp.any(distance < 2.0 * system.physics.drone_radius),
        separation=jnp.min(trajectory.others.gap),
        blocked=away & ~approaching,
        late=away & approaching,
    )


def swarm_report(flights: SwarmMetrics | None) -> dict[str, float]:
    """Metrics of a batch of flights (leading axis), by name; none for drones alone. ``gcbf_*`` are rates over drones
    and scenes as GCBF+ reports them."""
    if flights is None:
        return {}
    safe, reached, blocked, late = (
        np.asarray(getattr(flights, name), float) for name in ("safe", "reached", "blocked", "late")
    )
    return {
        "gcbf_safe_rate": float(safe.mean()),
        "gcbf_reach_rate": float(reached.mean()),
        "gcbf_success_rate": float((safe * reached).mean()),
        "blocked_rate": float(blocked.mean()),
        "late_rate": float(late.mean()),
        "smallest_separation": float(np.min(flights.separation)),
    }
