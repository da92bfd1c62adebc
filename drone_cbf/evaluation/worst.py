"""Keeps the worst flights of an evaluation, so that exactly these can be flown again."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import reduce

import jax
import numpy as np
from numpy.typing import ArrayLike

from drone_cbf.evaluation.matrix import Cell, WatchedFlights
from drone_cbf.flights import drones_of
from drone_cbf.safety.records import Status
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, padded, slots_of

WORST = 16  # Flights kept per reason: largest violation, and most solver failures
VIOLATION, SOLVER_FAILURE = "violation", "solver_failure"
PER_DRONE = ("start", "start_velocity", "goal")  # Fields of a scene that each drone of a swarm has


@dataclass(frozen=True)
class ReplayStates:
    """Everything that determines a set of flights, and their outcomes; leading axis of flights.

    The same policy on the same machine reproduces them bit for bit; rounding depends on a flight's row and batch size.
    A flight in a swarm is one of its drones, and the scene is that of the whole swarm, which is flown again. Where any
    flight is in a swarm, starts, start velocities, goals and ends have an axis of drones, (n, w, 3) for the largest
    swarm's w; rows beyond ``drones`` are zero.
    """

    scenes: Scene  # Obstacles, start [m], start velocity [m/s], goal [m], wind; all with the same slots for obstacles
    slots: np.ndarray  # (n, 4) int: slots with which each was flown, in the order of the fields of `Slots`
    drones: np.ndarray  # (n,) int: drones that flew at once in a scene of a swarm; 0: a scene of a single drone
    drone: np.ndarray  # (n,) int: which of them the outcomes are of
    keys: np.ndarray  # Key data of the scenes, (n, 2) uint32
    noise: np.ndarray  # Observation noise [m, m/s], (n,) float32
    rows: np.ndarray  # (n,) int: row in the batch in which the scene was computed
    batches: np.ndarray  # (n,) int: scenes per call of the compiled function
    cells: np.ndarray  # (n,) text: cell of the matrix
    reasons: np.ndarray  # (n,) text: `VIOLATION` or `SOLVER_FAILURE`
    steps: np.ndarray  # (n,) int: step of the largest violation, or of the first solver failure
    violation: np.ndarray  # Largest CBF violation of the flight [m/s], (n,)
    clearance: np.ndarray  # Smallest clearance of the flight [m], (n,)
    status: np.ndarray  # (n,) int: `Status` of the filter at ``steps``
    failures: np.ndarray  # (n,) int: steps on which the solver failed
    end: np.ndarray  # Final position [m], (n, 3), of a swarm's every drone; sensitive to every command of the flight
    blend: float = 1.0
    horizon: int = 1

    def __len__(self) -> int:
        return len(self.noise)

    @property
    def widest(self) -> int | None:
        """Length of the axis of drones; None without one."""
        return int(self.end.shape[1]) if self.end.ndim == 3 else None

    def own_scenes(self) -> Scene:
        """The scene of each flight as one drone has it: with its own start, start velocity and goal alone."""
        if self.widest is None:
            return self.scenes
        own = {name: getattr(self.scenes, name)[np.arange(len(self)), self.drone] for name in PER_DRONE}
        return self.scenes.replace(**own)


LISTED = tuple(each.name for each in fields(ReplayStates) if each.name not in ("blend", "horizon"))
"""Fields with a leading axis of flights."""


def chosen(states: ReplayStates, order: ArrayLike) -> ReplayStates:
    """The flights ``order`` of ``states``, in that order."""
    index = np.asarray(order, int)
    return replace(states, **{name: jax.tree.map(lambda x: x[index], getattr(states, name)) for name in LISTED})


def whole_scene(states: ReplayStates, index: int) -> Scene:
    """The scene of flight ``index``, of a swarm with the starts and goals of all its drones, as many as it has."""
    one: Scene = jax.tree.map(lambda leaf: leaf[index], states.scenes)
    drones = int(states.drones[index])
    return one.replace(**{name: of_drones(getattr(one, name)[None], drones)[0] for name in PER_DRONE})


def of_drones(places: np.ndarray, drones: int) -> np.ndarray:
    """What the first ``drones`` of each scene have (leading axis); 0: what the single drone has, without an axis."""
    if places.ndim == 2:
        return places
    return places[:, :drones] if drones else places[:, 0]


def joined(parts: Sequence[ReplayStates]) -> ReplayStates:
    """Concatenation of ``parts``, which share blend and horizon."""
    slots = reduce(Slots.widened, (slots_of(part.scenes.obstacles) for part in parts))
    widest = max((part.widest for part in parts if part.widest), default=None)
    parts = [with_room(replace(part, scenes=_with_slots(part.scenes, slots)), widest) for part in parts]
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


def with_room(states: ReplayStates, widest: int | None) -> ReplayStates:
    """``states`` with an axis of ``widest`` drones, at least as long as the one they have; None: without one."""
    if states.widest == widest:
        return states

    def wider(places: np.ndarray) -> np.ndarray:
        alone = places if places.ndim == 3 else places[:, None]
        return np.pad(np.asarray(alone), [(0, 0), (0, (widest or 1) - alone.shape[1]), (0, 0)])

    own = {name: wider(getattr(states.scenes, name)) for name in PER_DRONE}
    return replace(states, scenes=states.scenes.replace(**own), end=wider(states.end))


@dataclass
class WorstFlights:
    """Collects the worst flights of each cell, then of all cells; of each swarm the worst drone."""

    blend: float
    parts: list[ReplayStates] = field(default_factory=list)

    def watch(self, cell: Cell, flights: WatchedFlights) -> None:
        """Keep the worst flights of one cell."""
        drones = drones_of(flights.scenes)
        violation = _nan_is_worst(np.max(np.asarray(flights.metrics.violation), axis=1))
        room = _room(np.asarray(flights.metrics.smallest_clearance), flights.scenes.start.ndim == 3)
        violating = _worst(_worst_of_each(violation, drones, room), violation, room)
        self.parts.append(watched_states(cell, flights, self.blend, violating))
        failures = _failures(flights)
        failing = _worst_of_each(failures, drones)
        failing = _worst(failing[failures[failing] > 0], failures)
        at = np.argmax(flights.status[failing] == Status.FALLBACK, axis=1)
        failed = watched_states(cell, flights, self.blend, failing)
        failed = replace(failed, steps=at, status=np.full(len(failing), int(Status.FALLBACK)))
        self.parts.append(_because(failed, SOLVER_FAILURE))

    def states(self) -> ReplayStates | None:
        """The worst flights of all cells, per reason the worst first; None if nothing was watched."""
        if not self.parts:
            return None
        every = joined(self.parts)
        room = _room(every.clearance, every.drones > 0)
        violating = _worst(np.flatnonzero(every.reasons == VIOLATION), _nan_is_worst(every.violation), room)
        failing = _worst(np.flatnonzero(every.reasons == SOLVER_FAILURE), every.failures)
        return chosen(every, [*violating, *failing])


def watched_states(cell: Cell, flights: WatchedFlights, blend: float, chosen: np.ndarray) -> ReplayStates:
    """The flights ``chosen`` of a cell, each with the step of its largest violation."""
    drones, alone = drones_of(flights.scenes), flights.scenes.start.ndim == 2
    scene, drone = np.divmod(chosen, drones)
    metrics = jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], flights.metrics)
    worst = np.argmax(_nan_is_worst(metrics.violation), axis=1)
    every, end = np.arange(len(chosen)), np.asarray(flights.end)
    return ReplayStates(
        scenes=jax.tree.map(lambda leaf: np.asarray(leaf)[scene], flights.scenes),
        slots=np.tile(astuple(slots_of(flights.scenes.obstacles)), (len(chosen), 1)),
        drones=np.full(len(chosen), 0 if alone else drones),
        drone=drone,
        keys=np.asarray(jax.random.key_data(flights.keys))[scene],
        noise=np.full(len(chosen), cell.noise, np.float32),
        rows=scene % flights.batch,
        batches=np.full(len(chosen), flights.batch),
        cells=np.full(len(chosen), cell.name),
        reasons=np.full(len(chosen), VIOLATION),
        steps=worst,
        violation=metrics.violation[every, worst],
        clearance=metrics.smallest_clearance,
        status=flights.status[chosen, worst].astype(int),
        failures=_failures(flights)[chosen],
        end=end[chosen] if alone else end.reshape(-1, drones, 3)[scene],
        blend=blend,
        horizon=flights.status.shape[1],
    )


def _failures(flights: WatchedFlights) -> np.ndarray:
    """Steps of each flight on which the solver failed."""
    return np.asarray(np.sum(flights.status == Status.FALLBACK, axis=1))


def _room(clearance: np.ndarray, swarm: np.ndarray | bool) -> np.ndarray:
    """By which drones of swarms are ranked where violations are equal, as they are where there is none [m]."""
    return np.where(swarm, np.nan_to_num(clearance, nan=-np.inf), 0.0)


def _worst_of_each(values: np.ndarray, drones: int, room: np.ndarray | None = None) -> np.ndarray:
    """Of every ``drones`` flights, those of one swarm, the index of the one with the largest of ``values``, and of
    equal ones of that with the least ``room``."""
    by_scene = np.arange(len(values)).reshape(-1, drones)
    return np.array([_ranked(scene, values, room)[0] for scene in by_scene], int)


def _ranked(among: np.ndarray, values: np.ndarray, room: np.ndarray | None) -> np.ndarray:
    """The indices ``among`` by falling ``values``, equal ones by rising ``room``, else as they are."""
    keys = (-values[among],) if room is None else (room[among], -values[among])
    return among[np.lexsort(keys)]


def _because(states: ReplayStates, reason: str) -> ReplayStates:
    return replace(states, reasons=np.full(len(states), reason))


def _worst(among: np.ndarray, values: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
    """The indices ``among`` with the :data:`WORST` largest values, largest first; equal ones by rising ``room``."""
    return _ranked(among, values, room)[:WORST]


def _nan_is_worst(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.inf, values)
