"""Data of figures of a swarm: all drones of a scene together, as plain numpy records in SI units, world frame, z up.

T is the number of control steps, n of drones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drone_cbf.reporting.fields import Array, settle
from drone_cbf.reporting.obstacles import Obstacles


@dataclass(frozen=True, eq=False)
class SwarmFlight:
    """One recorded flight of a whole swarm. Row k of a (T, ...) field belongs to the step from time k dt on."""

    name: str
    time_step: float
    """Control period dt [s]."""
    position: Array
    """World frame [m], (T+1, n, 3)."""
    gap: Array
    """Least distance between a drone's hull and any other's during the step [m], (T, n); inf: nobody else."""
    clearance: Array
    """Least distance between a drone's hull and any surface or other hull during the step [m], (T, n)."""
    status: npt.NDArray[np.integer]
    """Status code of the filter, as the safety package numbers them, (T, n)."""
    at_goal: npt.NDArray[np.bool_]
    """Near the goal and slow, (T+1, n)."""
    goal: Array
    """World frame [m], (n, 3)."""
    obstacles: Obstacles
    drone_radius: float
    """[m]"""
    sight: float
    """Distance up to which a drone perceives others [m]."""
    perceived: int
    """How many others a drone perceives at most, the nearest ones."""
    noise: float = 0.0
    """Standard deviation of the observation noise [m]."""
    filtered: bool = True
    """Whether the safety filter was on."""
    cell: str = ""
    """Cell of the evaluation, or empty."""

    def __post_init__(self) -> None:
        owner = f"SwarmFlight {self.name!r}"
        if np.ndim(self.position) != 3 or np.shape(self.position)[0] < 2:
            raise ValueError(f"{owner}: position has shape {np.shape(self.position)}; it needs (T+1 >= 2, n, 3)")
        points, drones = np.shape(self.position)[:2]
        steps = points - 1
        values = dict.fromkeys(("gap", "clearance"), (steps, drones))
        settle(self, owner, {"position": (points, drones, 3), **values, "goal": (drones, 3)})
        settle(self, owner, {"status": (steps, drones)}, int)
        settle(self, owner, {"at_goal": (points, drones)}, bool)
        for field in ("position", "goal"):
            if not np.isfinite(getattr(self, field)).all():
                raise ValueError(f"{owner}: {field} must be finite; leave out flights that left the numbers")
        for field in ("time_step", "drone_radius", "sight"):
            if not 0.0 < getattr(self, field) < np.inf:
                raise ValueError(f"{owner}: {field} = {getattr(self, field)} must be positive and finite")

    @property
    def drones(self) -> int:
        """n."""
        return int(self.position.shape[1])

    @property
    def steps(self) -> int:
        """T."""
        return len(self.status)

    @property
    def times(self) -> Array:
        """Time of every state [s], (T+1,)."""
        return np.arange(self.steps + 1) * self.time_step

    @property
    def least_gap(self) -> Array:
        """Least gap between any two hulls during each step [m], (T,)."""
        return self.gap.min(axis=1)

    @property
    def arrived(self) -> Array:
        """Share of the drones that are at their goals at every state, (T+1,)."""
        return self.at_goal.mean(axis=1)

    @property
    def collided(self) -> npt.NDArray[np.bool_]:
        """Whether each drone touched anything, (n,)."""
        return (self.clearance < 0.0).any(axis=0)

    @property
    def contact(self) -> npt.NDArray[np.integer]:
        """Step of each drone's first contact, (n,); -1: none."""
        return np.where(self.collided, np.argmax(self.clearance < 0.0, axis=0), -1)


def require_swarms(swarms: Sequence[SwarmFlight]) -> None:
    """Raise ValueError for an empty sequence, or one that does not consist of swarms."""
    if isinstance(swarms, SwarmFlight) or not all(isinstance(swarm, SwarmFlight) for swarm in swarms):
        raise ValueError("expected a sequence of swarms, nothing else; for one swarm pass [swarm]")
    if not swarms:
        raise ValueError("no swarms to draw; pass at least one SwarmFlight")
