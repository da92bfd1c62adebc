"""Data of figures: plain numpy records in SI units, world frame, z up. T is the number of control steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

ACTING_THRESHOLD = 1e-3
"""The filter counts as acting where it changes the command by more than this [m/s^2]; well above float32 rounding."""
RELAXED_THRESHOLD = 1e-4  # a step whose slack exceeds this was relaxed (DESIGN 5, ``eval/relax_rate``)


@dataclass(frozen=True, eq=False)
class Obstacles:
    """M vertical capsules: all points within ``radius`` of the segment ``centre`` +- ``half_height`` along z."""

    centre: Array
    """Middle of each segment, world frame [m], (M, 3)."""
    radius: Array
    """[m], (M,), positive where active."""
    half_height: Array
    """Half length of the segment [m], (M,): 0 is a sphere, large a tree trunk."""
    active: npt.NDArray[np.bool_]
    """(M,) False: an unused slot, never drawn."""

    def __post_init__(self) -> None:
        count = np.shape(self.centre)[0] if np.ndim(self.centre) else 0
        _settle(self, "Obstacles", {"centre": (count, 3), "radius": (count,), "half_height": (count,)})
        _settle(self, "Obstacles", {"active": (count,)}, bool)
        sizes = np.stack([self.radius, self.half_height])[:, self.active]
        if not (np.isfinite(self.centre[self.active]).all() and np.isfinite(sizes).all()):
            raise ValueError("Obstacles: active obstacles must be finite; clear `active` for unused slots")
        if (self.radius[self.active] <= 0.0).any() or (self.half_height[self.active] < 0.0).any():
            raise ValueError("Obstacles: active obstacles need radius > 0, half_height >= 0; clear `active` elsewhere")

    def same_as(self, other: Obstacles) -> bool:
        """Whether the active obstacles are equal, slot by slot."""
        mine, theirs = self.table(), other.table()
        return mine.shape == theirs.shape and bool((mine == theirs).all())

    def table(self) -> Array:
        """The active obstacles as rows (x, y, z, radius, half_height) [m], (A, 5)."""
        return np.column_stack([self.centre, self.radius, self.half_height])[self.active]


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

    def __post_init__(self) -> None:
        owner = f"Flight {self.name!r}"
        steps = np.shape(self.position)[0] - 1 if np.ndim(self.position) else 0
        if steps < 1:
            raise ValueError(f"{owner}: position has shape {np.shape(self.position)}; it needs T+1 >= 2 positions")
        states = dict.fromkeys(("position", "velocity"), (steps + 1, 3))
        commands = dict.fromkeys(("command", "nominal"), (steps, 3))
        values = dict.fromkeys(("barrier", "analytic_barrier", "clearance", "slack"), (steps,))
        _settle(self, owner, {**states, **commands, **values, "goal": (3,)})
        _settle(self, owner, {"status": (steps,)}, int)
        for field in ("position", "velocity", "goal"):
            if not np.isfinite(getattr(self, field)).all():
                raise ValueError(f"{owner}: {field} must be finite; end the flight at its last finite state")
        for field in ("time_step", "drone_radius"):
            if not 0.0 < getattr(self, field) < np.inf:
                raise ValueError(f"{owner}: {field} = {getattr(self, field)} must be positive and finite")

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
        _settle(self, "BarrierSlice", {"x": (columns,), "y": (rows,), **grid, "velocity": (3,)})
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


def _settle(record: object, owner: str, shapes: Mapping[str, tuple[int, ...]], kind: type = float) -> None:
    """Replace each named field by a numpy array of ``kind`` (device arrays are accepted); refuse other shapes."""
    for field, shape in shapes.items():
        try:
            array = np.asarray(getattr(record, field), dtype=kind)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{owner}: {field} cannot be read as an array of {kind.__name__}") from error
        if array.shape != shape:
            raise ValueError(f"{owner}: {field} has shape {array.shape}, expected {shape}")
        object.__setattr__(record, field, array)
