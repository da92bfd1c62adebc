"""Keeps the worst flights of an evaluation, so that exactly these can be flown again."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import reduce

import jax
import numpy as np
from numpy.typing import ArrayLike

from drone_cbf.evaluation.matrix import Cell, WatchedFlights
from drone_cbf.safety.records import Status
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, padded, slots_of

WORST = 16  # Flights kept per reason: largest violation, and most solver failures
VIOLATION, SOLVER_FAILURE = "violation", "solver_failure"


@dataclass(frozen=True)
class ReplayStates:
    """Everything that determines a set of flights, and their outcomes; leading axis of flights.

    The same policy on the same machine reproduces them bit for bit; rounding depends on a flight's row and batch size.
    """

    scenes: Scene  # Obstacles, start [m], start velocity [m/s], goal [m], wind; all with the same slots for obstacles
    slots: np.ndarray  # (n, 4) int: slots with which each was flown, in the order of the fields of `Slots`
    keys: np.ndarray  # Key data of the flights, (n, 2) uint32
    noise: np.ndarray  # Observation noise [m, m/s], (n,) float32
    rows: np.ndarray  # (n,) int: row in the batch in which the flight was computed
    cells: np.ndarray  # (n,) text: cell of the matrix
    reasons: np.ndarray  # (n,) text: `VIOLATION` or `SOLVER_FAILURE`
    steps: np.ndarray  # (n,) int: step of the largest violation, or of the first solver failure
    violation: np.ndarray  # Largest CBF violation of the flight [m/s], (n,)
    clearance: np.ndarray  # Smallest clearance of the flight [m], (n,)
    status: np.ndarray  # (n,) int: `Status` of the filter at ``steps``
    failures: np.ndarray  # (n,) int: steps on which the solver failed
    end: np.ndarray  # Final position [m], (n, 3); sensitive to every command of the flight
    blend: float = 1.0
    horizon: int = 1
    batch: int = 1  # Flights per call of the compiled function

    def __len__(self) -> int:
        return len(self.noise)


LISTED = tuple(each.name for each in fields(ReplayStates) if each.name not in ("blend", "horizon", "batch"))
"""Fields with a leading axis of flights."""


def chosen(states: ReplayStates, order: ArrayLike) -> ReplayStates:
    """The flights ``order`` of ``states``, in that order."""
    index = np.asarray(order, int)
    return replace(states, **{name: jax.tree.map(lambda x: x[index], getattr(states, name)) for name in LISTED})


def joined(parts: Sequence[ReplayStates]) -> ReplayStates:
    """Concatenation of ``parts``, which share blend, horizon and batch."""
    slots = reduce(Slots.widened, (slots_of(part.scenes.obstacles) for part in parts))
    parts = [replace(part, scenes=_with_slots(part.scenes, slots)) for part in parts]
    together = {
        name: jax.tree.map(lambda *leaves: np.concatenate(leaves), *(getattr(part, name) for part in parts))
        for name in LISTED
    }
    return replace(parts[0], **together)


def _with_slots(scenes: Scene, slots: Slots) -> Scene:
    if slots_of(scenes.obstacles) == slots:
        return scenes
    obstacles = jax.device_get(jax.vmap(lambda each: padded(each, slots))(scenes.obstacles))
    return scenes.replace(obstacles=obstacles)


@dataclass
class WorstFlights:
    """Collects the worst flights of each cell, then of all cells."""

    blend: float
    parts: list[ReplayStates] = field(default_factory=list)

    def watch(self, cell: Cell, flights: WatchedFlights) -> None:
        """Keep the worst flights of one cell."""
        states = watched_states(cell, flights, self.blend)
        violating = _worst(np.arange(len(states)), _nan_is_worst(states.violation))
        failing = _worst(np.flatnonzero(states.failures), states.failures)
        self.parts.append(_because(chosen(states, violating), VIOLATION))
        at = np.argmax(flights.status[failing] == Status.FALLBACK, axis=1)
        failed = replace(chosen(states, failing), steps=at, status=np.full(len(failing), int(Status.FALLBACK)))
        self.parts.append(_because(failed, SOLVER_FAILURE))

    def states(self) -> ReplayStates | None:
        """The worst flights of all cells, per reason the worst first; None if nothing was watched."""
        if not self.parts:
            return None
        every = joined(self.parts)
        violating = _worst(np.flatnonzero(every.reasons == VIOLATION), _nan_is_worst(every.violation))
        failing = _worst(np.flatnonzero(every.reasons == SOLVER_FAILURE), every.failures)
        return chosen(every, [*violating, *failing])


def watched_states(cell: Cell, flights: WatchedFlights, blend: float) -> ReplayStates:
    """All flights of a cell, each with the step of its largest violation."""
    metrics = jax.tree.map(np.asarray, flights.metrics)
    count, horizon = metrics.violation.shape
    worst = np.argmax(_nan_is_worst(metrics.violation), axis=1)
    every = np.arange(count)
    return ReplayStates(
        scenes=jax.tree.map(lambda x: np.asarray(x)[:count], flights.scenes),
        slots=np.tile(astuple(slots_of(flights.scenes.obstacles)), (count, 1)),
        keys=np.asarray(jax.random.key_data(flights.keys)),
        noise=np.full(count, cell.noise, np.float32),
        rows=every % flights.batch,
        cells=np.full(count, cell.name),
        reasons=np.full(count, VIOLATION),
        steps=worst,
        violation=metrics.violation[every, worst],
        clearance=metrics.smallest_clearance,
        status=flights.status[every, worst].astype(int),
        failures=np.sum(flights.status == Status.FALLBACK, axis=1),
        end=np.asarray(flights.end),
        blend=blend,
        horizon=horizon,
        batch=flights.batch,
    )


def _because(states: ReplayStates, reason: str) -> ReplayStates:
    return replace(states, reasons=np.full(len(states), reason))


def _worst(among: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The indices ``among`` with the :data:`WORST` largest values, largest first."""
    return among[np.argsort(-values[among], kind="stable")][:WORST]


def _nan_is_worst(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.inf, values)
