"""Data of figures: plain numpy records in SI units, world frame, z up. T is the number of control steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drone_cbf.reporting.fields import Array, settle
from drone_cbf.reporting.obstacles import Obstacles

ACTING_THRESHOLD = 1e-3
"""The filter counts as acting where it changes the command by more than this [m/s^2]; well above float32 rounding."""
UNIT_TOLERANCE = 1e-3  # of the length of a quaternion that was integrated in float32
RELAXED_THRESHOLD = 1e-4  # a step whose slack exceeds this was relaxed (DESIGN 5, ``eval/relax_rate``)


@dataclass(frozen=True, eq=False)
class Flight:
    """One recorded flight. Row k of a (T, ...) field belongs to the step from time k dt to (k + 1) dt."""

    name: str
    time_step: float
    """Control period dt [s]."""
    position: Array
    """World frame [m], (T+1, 3)."""
    velocity: Array
    """World frame [m/s], (T+1, 3)."""
    command: Array
    """Acceleration flown, world frame [m/s^2], (T, 3)."""
    nominal: Array
    """Acceleration the policy asked for, world frame [m/s^2], (T, 3)."""
    barrier: Array
    """h as the filter evaluated it [m], (T,); NaN where it was not evaluated."""
    analytic_barrier: Array
    """The analytic h where the command acts, predicted from the true state [m], (T,); NaN where not evaluated."""
    clearance: Array
    """Smallest distance between the surfaces of drone and obstacles during the step [m], (T,); inf: nothing near."""
    slack: Array
    """Relaxation of the CBF row, (T,)."""
    status: npt.NDArray[np.integer]
    """Status code of the filter, as the safety package numbers them, (T,)."""
    goal: Array
    """World frame [m], (3,)."""
    obstacles: Obstacles
    drone_radius: float
    """[m]"""
    reached: bool
    """Stayed at the goal as DESIGN 5 defines success."""
    collided: bool
    noise: float = 0.0
    """Standard deviation of the observation noise [m]."""
    filtered: bool = True
    """Whether the safety filter was on."""
    seen: Array | None = None
    """Points that a range sensor hit at the start of each step, world frame [m], (T, n, 3); None: not recorded."""
    seen_mask: npt.NDArray[np.bool_] | None = None
    """(T, n) False: the ray hit nothing. None: every finite point of ``seen`` is a hit."""
    attitude: Array | None = None
    """Unit quaternion (w, x, y, z) that turns body axes into world axes, (T+1, 4); None: the model has none."""
    rates: Array | None = None
    """Angular velocity in body axes [rad/s], (T+1, 3); None: the model has none."""
    depth: Array | None = None
    """Depth image at the start of each step [m], (T, h, w), first row on top; not finite: nothing seen."""

    def __post_init__(self) -> None:
        owner = f"Flight {self.name!r}"
        steps = np.shape(self.position)[0] - 1 if np.ndim(self.position) else 0
        if steps < 1:
            raise ValueError(f"{owner}: position has shape {np.shape(self.position)}; it needs T+1 >= 2 positions")
        states = dict.fromkeys(("position", "velocity"), (steps + 1, 3))
        commands = dict.fromkeys(("command", "nominal"), (steps, 3))
        values = dict.fromkeys(("barrier", "analytic_barrier", "clearance", "slack"), (steps,))
        settle(self, owner, {**states, **commands, **values, "goal": (3,)})
        settle(self, owner, {"status": (steps,)}, int)
        for field in ("position", "velocity", "goal"):
            if not np.isfinite(getattr(self, field)).all():
                raise ValueError(f"{owner}: {field} must be finite; end the flight at its last finite state")
        for field in ("time_step", "drone_radius"):
            if not 0.0 < getattr(self, field) < np.inf:
                raise ValueError(f"{owner}: {field} = {getattr(self, field)} must be positive and finite")
        self._settle_body(owner, steps)
        self._settle_sensor(owner, steps)

    def _settle_body(self, owner: str, steps: int) -> None:
        for field, size in (("attitude", 4), ("rates", 3)):
            if getattr(self, field) is not None:
                settle(self, owner, {field: (steps + 1, size)})
        if self.attitude is not None:
            length = np.linalg.norm(self.attitude, axis=-1)
            if not (np.abs(length - 1.0) < UNIT_TOLERANCE).all():
                worst = length[np.argmax(np.abs(length - 1.0))]
                raise ValueError(f"{owner}: attitude holds a quaternion of length {worst:.4g}; all must have length 1")

    def _settle_sensor(self, owner: str, steps: int) -> None:
        if self.depth is not None:
            settle(self, owner, {"depth": (steps, *np.shape(self.depth)[1:3])})
        if self.seen is None:
            if self.seen_mask is not None:
                raise ValueError(f"{owner}: seen_mask without seen; pass the points that it masks")
            return
        rays = np.shape(self.seen)[1] if np.ndim(self.seen) > 1 else 0
        settle(self, owner, {"seen": (steps, rays, 3)})
        finite = np.isfinite(self.seen).all(-1)
        if self.seen_mask is None:
            object.__setattr__(self, "seen_mask", finite)
        settle(self, owner, {"seen_mask": (steps, rays)}, bool)
        object.__setattr__(self, "seen_mask", self.seen_mask & finite)

    def hits(self, step: int) -> Array:
        """What the range sensor hit at the start of ``step``, world frame [m], (hits, 3)."""
        if self.seen is None or self.seen_mask is None:
            return np.zeros((0, 3))
        return self.seen[step][self.seen_mask[step]]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.command)

    @property
    def times(self) -> Array:
        """Time of every state [s], (T+1,)."""
        return np.arange(self.steps + 1) * self.time_step

    @property
    def speed(self) -> Array:
        """[m/s], (T+1,)."""
        return np.linalg.norm(self.velocity, axis=-1)

    @property
    def correction(self) -> Array:
        """|safe - nominal command| [m/s^2], (T,); zero without a filter, where only the command limits change it."""
        return np.linalg.norm(self.command - self.nominal, axis=-1) * self.filtered

    @property
    def acted(self) -> npt.NDArray[np.bool_]:
        """Steps on which the filter changed the command, (T,)."""
        return self.correction > ACTING_THRESHOLD

    @property
    def least_clearance(self) -> float:
        """Smallest clearance of the flight [m]; NaN if none was recorded."""
        return float(np.fmin.reduce(self.clearance))

    @property
    def outcome(self) -> str:
        """One word for titles."""
        return "collided" if self.collided else "reached" if self.reached else "not reached"


@dataclass(frozen=True, eq=False)
class BarrierSlice:
    """Two barriers on a horizontal grid of positions, at one height and one velocity."""

    x: Array
    """Increasing, world frame [m], (nx,)."""
    y: Array
    """Increasing, world frame [m], (ny,)."""
    analytic: Array
    """[m], (ny, nx); NaN: not evaluated."""
    neural: Array
    """[m], (ny, nx); NaN: not evaluated."""
    velocity: Array
    """Of the drone, the same at every point, world frame [m/s], (3,)."""
    height: float
    """z of the slice, world frame [m]."""
    obstacles: Obstacles
    drone_radius: float
    """[m]"""

    def __post_init__(self) -> None:
        columns, rows = np.size(self.x), np.size(self.y)
        grid = {"analytic": (rows, columns), "neural": (rows, columns)}
        settle(self, "BarrierSlice", {"x": (columns,), "y": (rows,), **grid, "velocity": (3,)})
        for field in ("x", "y"):
            line = getattr(self, field)
            if len(line) < 2 or not (np.diff(line) > 0.0).all():
                raise ValueError(f"BarrierSlice: {field} must hold at least two increasing coordinates; got {line[:4]}")
        if not (np.isfinite(self.analytic) & np.isfinite(self.neural)).any():
            raise ValueError("BarrierSlice: analytic and neural share no finite value; nothing can be compared")


def require_flights(flights: object) -> None:
    """Raise ValueError for an empty sequence, or one that does not consist of flights."""
    if not flights:
        raise ValueError("no flights to draw; pass at least one Flight")
    if isinstance(flights, Flight) or not all(isinstance(flight, Flight) for flight in flights):
        raise ValueError("expected a sequence of flights, nothing else; for one flight pass [flight]")
